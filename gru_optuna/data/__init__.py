"""From files to tensors: ``files`` reads, ``sequences`` prepares, ``dataset`` is the result."""
