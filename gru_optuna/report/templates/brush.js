// Brushing the parallel coordinates: by mouse on the axes, by keyboard in the form below them.
(() => {
  const plot = document.getElementById("parallel_coordinates-0");
  if (!plot) return;
  const form = document.createElement("div");
  form.className = "brush";
  form.innerHTML =
    '<label>Keep trials with <select data-axis></select></label>' +
    '<label>from <select data-from></select></label><label>to <select data-to></select></label>' +
    '<button type="button" class="quiet-button" data-keep>Keep</button>' +
    '<button type="button" class="quiet-button" data-all>Keep all</button>' +
    '<p role="status" aria-live="polite"></p>';
  const [axis, from, to] = form.querySelectorAll("select");
  const status = form.querySelector("p");
  const axes = () => plot.data[0].dimensions;
  const option = (text, value) => new Option(text, value);

  const ends = () => {
    const { tickvals, ticktext } = axes()[axis.value];
    const range = axes()[axis.value].range;
    from.replaceChildren(...tickvals.map((place, n) => option(ticktext[n], place)));
    to.replaceChildren(...tickvals.map((place, n) => option(ticktext[n], place)));
    // Ranges seldom end at a tick.
    if (range[0] < tickvals[0]) from.prepend(option("the lowest", range[0]));
    if (range[1] > tickvals.at(-1)) to.append(option("the highest", range[1]));
    from.selectedIndex = 0;
    to.selectedIndex = to.options.length - 1;
  };

  const describe = () => {
    const { dimensions, line, meta } = plot.data[0];
    const brushed = dimensions.filter((axis) => axis.constraintrange);
    const within = (place, range) => place >= range[0] && place <= range[1];
    const kept = meta.numbers.map((_, n) => n).filter((n) =>
      brushed.every(({ constraintrange, values }) => {
        const ranges = Array.isArray(constraintrange[0]) ? constraintrange : [constraintrange];
        return ranges.some((range) => within(values[n], range));
      }));
    if (!brushed.length || !kept.length) {
      status.textContent = brushed.length ? "No trial passes there." : "";
      return;
    }
    const better = (a, b) => (meta.maximize ? line.color[a] > line.color[b] : line.color[a] < line.color[b]);
    const best = kept.reduce((a, b) => (better(b, a) ? b : a));
    status.textContent = `${kept.length} of ${meta.numbers.length} trials pass; ` +
      `the best of them is trial ${meta.numbers[best]} with ${meta.metric[best]}.`;
  };

  plot.addEventListener("drawn", () => {
    if (!form.isConnected) {
      plot.closest(".panel").append(form);
      axis.replaceChildren(...axes().map(({ label }, n) => option(label, n)));
      ends();
      axis.addEventListener("change", ends);
      const restyle = (n, range) => Plotly.restyle(plot, { [`dimensions[${n}].constraintrange`]: range }, [0]);
      form.querySelector("[data-keep]").addEventListener("click", () => {
        const [low, high] = [Number(from.value), Number(to.value)].sort((a, b) => a - b);
        const slack = 1e-6 + (high === low ? 0.3 * (axes()[axis.value].range[1] - axes()[axis.value].range[0]) / Math.max(1, axes()[axis.value].tickvals.length - 1) : 0);
        restyle(axis.value, [[low - slack, high + slack]]);
      });
      form.querySelector("[data-all]").addEventListener("click", () => axes().forEach((_, n) => restyle(n, null)));
    }
    plot.removeAllListeners?.("plotly_restyle");
    plot.on("plotly_restyle", describe);
    describe();
  });
})();
