"use strict";
(() => {
  const root = document.documentElement;
  const plots = [...document.querySelectorAll(".plot")];
  const drawn = new Set();
  let webgl; // asked when it is needed: it takes its time where there is no graphics card
  const hasWebgl = () => (webgl ??= Boolean(document.createElement("canvas").getContext("webgl")));
  const kinds = {
    f4: Float32Array, f8: Float64Array, i1: Int8Array, u1: Uint8Array,
    i2: Int16Array, u2: Uint16Array, i4: Int32Array, u4: Uint32Array,
  };
  const bytes = (text) => {
    const letters = atob(text);
    const made = new Uint8Array(letters.length);
    for (let n = 0; n < made.length; n += 1) made[n] = letters.charCodeAt(n);
    return made;
  };

  // Figures name colours by role, var(--best); the style sheet knows which they are today.
  // Long lists of numbers are packed.
  const read = (plot) => {
    const style = getComputedStyle(root);
    const value = (_, content) => {
      if (typeof content === "string" && content.startsWith("var(--"))
        return style.getPropertyValue(content.slice(4, -1)).trim();
      if (content && content.bdata && !content.shape)
        return [...new kinds[content.dtype](bytes(content.bdata).buffer)];
      return content;
    };
    return JSON.parse(document.getElementById(`${plot.id}-data`).textContent, value);
  };

  const draw = (plot) => {
    const { data, layout } = read(plot);
    if (data.some((trace) => /gl$|^parcoords$/.test(trace.type)) && !hasWebgl()) {
      plot.textContent = "This figure needs WebGL, which this browser has switched off.";
      return;
    }
    // On a narrow screen a legend of its own line needs room above the plot.
    if (plot.clientWidth < 520 && layout.legend !== null) {
      layout.margin = { ...(layout.margin ?? {}), r: 8 };
    }
    const small = Boolean(plot.closest(".panels"));
    Plotly.react(plot, data, layout, {
      responsive: true,
      displaylogo: false,
      // On a small panel the buttons would lie on the points.
      displayModeBar: small ? false : "hover",
      modeBarButtons: [layout.xaxis ? ["toImage", "zoom2d", "pan2d", "resetScale2d"] : ["toImage"]],
      toImageButtonOptions: { format: "svg", filename: plot.id },
    });
    drawn.add(plot);
    plot.dispatchEvent(new CustomEvent("drawn"));
  };

  // plotly is packed, and a figure is drawn when it comes near: the page opens at once.
  const unpack = async () => {
    const packed = new Blob([bytes(document.getElementById("plotly").textContent)]);
    const stream = packed.stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    const near = new IntersectionObserver(
      (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => {
        near.unobserve(entry.target);
        if (!drawn.has(entry.target)) draw(entry.target);
      }),
      { rootMargin: "500px" },
    );
    plots.forEach((plot) => near.observe(plot));
    root.dataset.ready = "yes";
  };

  const again = () => [...drawn].forEach(draw);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme || (dark.matches ? "dark" : "light")) === "dark";
  const button = document.getElementById("theme");
  const name = () => {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `Switch to the ${isDark() ? "light" : "dark"} theme`);
  };
  button.hidden = false;
  name();
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("gru-optuna-theme", root.dataset.theme); } catch {}
    name();
    again();
  });
  dark.addEventListener("change", () => { name(); again(); });

  // On paper everything is drawn, in the light theme.
  let before = null;
  addEventListener("beforeprint", () => {
    if (before !== null) return;
    before = root.dataset.theme;
    root.dataset.theme = "light";
    plots.forEach(draw);
  });
  addEventListener("afterprint", () => {
    if (before === null) return;
    root.dataset.theme = before;
    before = null;
    again();
  });

  unpack();
})();
