// What a page does beyond its HTML: charts drawn from their tables, copying, and updates without a reload.
// Every page says the same without this file.
"use strict";

(() => {
  const root = document.documentElement;
  root.classList.add("has-script");
  const color = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const isReduced = matchMedia("(prefers-reduced-motion: reduce)").matches;

  // On a narrow screen the menu begins closed.
  const menu = document.querySelector(".menu");
  if (menu && matchMedia("(max-width: 59.99rem)").matches) menu.open = false;

  // The parts as the server wrote them, before a chart was drawn in them.
  const written = new WeakMap();
  const keepWritten = (part) => written.set(part, part.outerHTML);
  document.querySelectorAll("[data-live]").forEach(keepWritten);

  // ---- Charts ----
  // <div class="chart" data-table="ID" data-kind="bar|line" data-stacked data-format="money|count|duration|percent">
  // draws the table ID: a row for each label (its first cell), a column for each series, numbers in data-value.

  const charts = new Map();

  function numberOf(cell) {
    const value = cell.dataset.value;
    return value === undefined || value === "" ? null : Number(value);
  }

  function readTable(table) {
    // A column of data-sum sums up others, and is not drawn.
    const heads = [...table.tHead.rows[0].cells].slice(1).filter((head) => !("sum" in head.dataset));
    const rows = [...table.tBodies[0].rows];
    return {
      labels: rows.map((row) => (row.cells[0].dataset.short || row.cells[0].textContent).trim()),
      series: heads.map((head) => ({
        label: head.textContent.trim(),
        tone: head.dataset.tone,
        data: rows.map((row) => numberOf(row.cells[head.cellIndex])),
        texts: rows.map((row) => row.cells[head.cellIndex].textContent.trim()),
      })),
    };
  }

  function axisText(format) {
    const language = root.lang;
    const styles = {
      money: { style: "currency", currency: "USD", currencyDisplay: "narrowSymbol", maximumFractionDigits: 4 },
      count: { notation: "compact" },
      percent: { style: "percent", maximumFractionDigits: 1 },
    };
    const numbers = new Intl.NumberFormat(language, styles[format] || {});
    const seconds = language === "tr" ? "sn" : "s";
    return (value) => {
      if (format !== "duration") return numbers.format(value);
      return value >= 1000 ? `${numbers.format(value / 1000)} ${seconds}` : `${numbers.format(value)} ms`;
    };
  }

  function drawChart(box) {
    if (typeof Chart === "undefined") return;
    const table = document.getElementById(box.dataset.table);
    if (!table || table.tBodies[0].rows.length === 0) return;
    const { labels, series } = readTable(table);
    const isStacked = "stacked" in box.dataset;
    const isLine = box.dataset.kind === "line";
    const datasets = series.map((one, index) => {
      const tone = color(`--${one.tone || `s${(index % 8) + 1}`}`);
      return {
        ...one, backgroundColor: tone, borderColor: tone, borderWidth: isLine ? 2 : 0, pointRadius: 0,
        pointHitRadius: 8, tension: 0.25, spanGaps: true, maxBarThickness: 40,
      };
    });
    const format = axisText(box.dataset.format);
    const old = charts.get(box.id);
    if (old) old.destroy();
    // Who sees the chart need not see its numbers, unless they have opened them.
    const numbers = table.closest("details.numbers");
    if (numbers && !box.firstChild && !("kept" in numbers.dataset)) numbers.open = false;
    const canvas = document.createElement("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${table.caption ? table.caption.textContent.trim() : ""}`);
    box.replaceChildren(canvas);
    charts.set(box.id, new Chart(canvas, {
      type: isLine ? "line" : "bar",
      data: { labels, datasets },
      options: {
        animation: false, responsive: true, maintainAspectRatio: false,
        interaction: { mode: "index", intersect: false },
        plugins: {
          legend: {
            display: series.length > 1, position: "bottom", labels: { color: color("--text"), boxWidth: 12 },
          },
          tooltip: { callbacks: { label: (item) => `${item.dataset.label}: ${item.dataset.texts[item.dataIndex]}` } },
        },
        scales: {
          x: {
            stacked: isStacked, grid: { display: false },
            ticks: { color: color("--soft"), maxRotation: 0, autoSkipPadding: 12 },
          },
          y: {
            stacked: isStacked, beginAtZero: true, grid: { color: color("--line") },
            ticks: { color: color("--soft"), callback: format, maxTicksLimit: 6 },
          },
        },
      },
    }));
  }

  function drawCharts() {
    document.querySelectorAll(".chart").forEach(drawChart);
  }

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawCharts);
  drawCharts();

  // ---- Wide tables ----
  // Tab leads to a box while it scrolls sideways. Not every browser does that by itself where the box holds no link.

  const boxes = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });
  const watchBoxes = (part) => part.querySelectorAll(".scroll, pre").forEach((box) => boxes.observe(box));
  watchBoxes(document);

  // ---- Copying ----

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const text = document.getElementById(button.dataset.copy).textContent.trim();
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const range = document.createRange();
      range.selectNodeContents(document.getElementById(button.dataset.copy));
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      document.execCommand("copy");
    }
    button.textContent = button.dataset.done;
  });

  // ---- Live ----
  // Parts of a page with data-live are replaced by those of the same page as the server writes it now, when the stream
  // says that something changed. A part in which somebody types, or has a menu open, stays as it is.

  // The pause grows with the time that an answer takes, so that many readers cost little more than one.
  const shortest = 3000;
  let isDue = false;
  let isRunning = false;

  async function refresh() {
    isDue = false;
    isRunning = true;
    const start = performance.now();
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
      if (answer.redirected && answer.url.includes("/sign-in")) return location.reload();
      if (answer.ok) replaceParts(new DOMParser().parseFromString(await answer.text(), "text/html"));
    } catch {
      // The next event tries again.
    }
    setTimeout(() => {
      isRunning = false;
      if (isDue) refresh();
    }, shortest + 20 * (performance.now() - start) * (0.5 + Math.random()));
  }

  function replaceParts(fresh) {
    for (const part of document.querySelectorAll("[data-live]")) {
      const other = fresh.querySelector(`[data-live="${CSS.escape(part.dataset.live)}"]`);
      if (!other || other.outerHTML === written.get(part) || part.contains(document.activeElement)) continue;
      const html = document.importNode(other, true);
      keepWritten(html);
      for (const details of part.querySelectorAll("details[id][open]")) {
        const same = html.querySelector(`#${CSS.escape(details.id)}`);
        if (same) {
          same.open = true;
          same.dataset.kept = "";
        }
      }
      const known = new Set([...part.querySelectorAll("tr[data-id]")].map((row) => row.dataset.id));
      if (known.size > 0) {
        for (const row of html.querySelectorAll("tr[data-id]")) {
          if (!known.has(row.dataset.id) && !isReduced) row.classList.add("new");
        }
      }
      part.replaceWith(html);
      watchBoxes(html);
      html.querySelectorAll(".chart").forEach(drawChart);
      if (html.classList.contains("chart")) drawChart(html);
    }
  }

  function requestRefresh() {
    if (isRunning) {
      isDue = true;
    } else {
      // A log and the totals that it changes come one after the other, and need one answer.
      isRunning = true;
      setTimeout(refresh, 100);
    }
  }

  // A hidden page listens to nothing: a browser opens few connections to one host.
  const { stream, mark } = document.body.dataset;
  let source = null;

  function listen(query = {}) {
    const url = new URL(stream, location.href);
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
    source = new EventSource(url);
    let hasTotals = false;
    source.addEventListener("open", () => (hasTotals = false));
    source.addEventListener("totals", () => {
      // The first ones are those of the page, and of the logs that came before them.
      if (hasTotals) requestRefresh();
      hasTotals = true;
    });
    for (const name of ["log", "reset"]) source.addEventListener(name, requestRefresh);
  }

  function stopListening() {
    if (source) source.close();
    source = null;
  }

  if (stream) {
    // With the mark, the stream begins where the page ends.
    if (!document.hidden) listen({ last_event_id: mark });
    document.addEventListener("visibilitychange", () => {
      stopListening();
      if (document.hidden) return;
      listen();
      requestRefresh();
    });
    addEventListener("pagehide", stopListening);
  }
})();
