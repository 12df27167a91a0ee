// Says as JSON what a person would see of the page.
window.addEventListener("load", () => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const charts = all("figure.chart").map((figure) => {
    const svg = [...figure.querySelectorAll("svg")].find((drawn) => drawn.getBoundingClientRect().width > 0);
    const bounds = svg.getBoundingClientRect();
    const box = figure.querySelector(".values");
    const before = box.hidden;
    const point = { clientX: bounds.left + 0.9 * bounds.width, clientY: bounds.top + bounds.height / 2, bubbles: true };
    svg.dispatchEvent(new PointerEvent("pointermove", point));
    const pointed = box.hidden ? null : box.innerText;
    const inside = box.getBoundingClientRect().right <= document.documentElement.clientWidth;
    svg.dispatchEvent(new PointerEvent("pointerleave", point));
    figure.dispatchEvent(new KeyboardEvent("keydown", { key: "Home", bubbles: true }));
    const first = box.innerText;
    figure.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
    const lines = [...svg.querySelectorAll("polyline")].filter((line) => line.getAttribute("stroke").startsWith("var(--line-"));
    return { name: figure.id, lines: lines.length, before, pointed, inside, first, after: box.hidden };
  });
  const sent = performance.getEntriesByType("resource").map((entry) => entry.name).filter((name) => !name.startsWith("data:"));
  const result = {
    faults: window.faults,
    sent,
    charts,
    images: all("img").length,
    broken: all("img").filter((image) => !image.complete || image.naturalWidth === 0).length,
    rows: Object.fromEntries(["classes", "confusion", "epochs", "network"].map((name) => [name, all(`table.${name} tbody tr`).length])),
    mistakes: all(".mistakes figure").length,
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    ground: getComputedStyle(document.body).backgroundColor,
  };
  const made = document.createElement("pre");
  made.id = "probe";
  made.textContent = JSON.stringify(result);
  document.body.append(made);
});
