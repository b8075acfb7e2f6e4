# The service and its workers, from a checkout:
#
#   docker build --tag gru-optuna .                              # for CPUs
#   docker build --tag gru-optuna --build-arg TORCH=cu128 .      # for NVIDIA GPUs
#
# docs/service.md says how to run them together with PostgreSQL.

FROM python:3.12-slim-bookworm AS build
# Which build of torch: cpu, or a version of CUDA as PyTorch's index names it.
ARG TORCH=cpu
WORKDIR /source
COPY pyproject.toml requirements.lock README.md CHANGELOG.md LICENSE ./
COPY gru_optuna gru_optuna
COPY studies studies
RUN python -m venv /opt/gru-optuna \
 && torch="$(grep '^torch==' requirements.lock)" \
 && /opt/gru-optuna/bin/pip install --no-cache-dir "$torch" \
      --index-url "https://download.pytorch.org/whl/$TORCH" \
 && /opt/gru-optuna/bin/pip install --no-cache-dir --constraint requirements.lock \
      ".[postgres,s3]"

FROM python:3.12-slim-bookworm
RUN useradd --create-home --uid 10001 gru-optuna \
 && install --directory --owner=gru-optuna /workspace /workspace/studies
COPY --from=build /opt/gru-optuna /opt/gru-optuna
ENV PATH=/opt/gru-optuna/bin:$PATH \
    OMP_NUM_THREADS=1 \
    PYTHONUNBUFFERED=1
# By number, as Kubernetes wants it to see that this is not root.
USER 10001
# Reports are rendered here; with SQLite, the database is here, too.
WORKDIR /workspace
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/readyz')"]
ENTRYPOINT ["gru-optuna"]
CMD ["serve", "--host", "0.0.0.0"]
