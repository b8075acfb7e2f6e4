"use strict";
(() => {
  const plots = [...document.querySelectorAll(".plot")];
  const webgl = Boolean(document.createElement("canvas").getContext("webgl"));

  // Figures name colours by role, var(--best); the style sheet knows which they are today.
  const read = (plot) => {
    const style = getComputedStyle(document.documentElement);
    const colour = (_, value) =>
      typeof value === "string" && value.startsWith("var(--")
        ? style.getPropertyValue(value.slice(4, -1)).trim()
        : value;
    return JSON.parse(document.getElementById(`${plot.id}-data`).textContent, colour);
  };

  const draw = (plot) => {
    const { data, layout } = read(plot);
    if (!webgl && data.some((trace) => /gl$|^parcoords$/.test(trace.type))) {
      plot.textContent = "This figure needs WebGL, which this browser has switched off.";
      return;
    }
    Plotly.react(plot, data, layout, {
      responsive: true,
      displaylogo: false,
      // On a small panel the buttons would lie on the points.
      displayModeBar: plot.closest(".panels") ? false : "hover",
      modeBarButtons: [layout.xaxis ? ["toImage", "zoom2d", "pan2d", "resetScale2d"] : ["toImage"]],
    });
  };

  plots.forEach(draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plots.forEach(draw));
})();
