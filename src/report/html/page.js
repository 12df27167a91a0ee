// Shows the values of a chart at the place that a person points at, or reaches with the arrow keys.
"use strict";
for (const figure of document.querySelectorAll("figure.chart")) {
  const { x, lines, frames } = JSON.parse(figure.querySelector("script").textContent);
  const box = figure.querySelector(".values");
  const places = [...new Set(lines.flatMap((line) => line.points.map((point) => point[0])))].sort((a, b) => a - b);
  const drawings = [...figure.querySelectorAll("svg")].map((svg, index) => ({ svg, frame: frames[index] }));
  let shown = -1;

  const element = (name, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const text = (number) => (Number.isInteger(number) ? String(number) : number.toPrecision(4));
  const seen = () => drawings.find(({ svg }) => svg.getBoundingClientRect().width > 0);

  const hide = () => {
    shown = -1;
    box.hidden = true;
    for (const mark of figure.querySelectorAll(".mark")) mark.remove();
  };

  const show = (index) => {
    hide();
    const drawing = seen();
    if (!drawing || places.length === 0) return;
    shown = Math.min(Math.max(index, 0), places.length - 1);
    const { svg, frame } = drawing;
    const [left, top, right, bottom] = frame.field;
    const column = (value) => left + ((value - frame.x[0]) / (frame.x[1] - frame.x[0])) * (right - left);
    const row = (value) => bottom - ((value - frame.y[0]) / (frame.y[1] - frame.y[0])) * (bottom - top);
    const at = places[shown];
    const mark = element("g", { class: "mark" });
    mark.append(element("line", { x1: column(at), x2: column(at), y1: top, y2: bottom, stroke: "var(--soft)", "stroke-dasharray": "3 3" }));
    box.replaceChildren(`${x} ${text(at)}`);
    for (const line of lines) {
      const point = line.points.find((candidate) => candidate[0] === at);
      if (!point) continue;
      mark.append(element("circle", { cx: column(at), cy: row(point[1]), r: 4.5, fill: `var(--line-${line.colour})`, stroke: "var(--card)", "stroke-width": 1.5 }));
      const entry = document.createElement("div");
      const dot = document.createElement("i");
      dot.style.background = `var(--line-${line.colour})`;
      const value = document.createElement("b");
      value.textContent = text(point[1]);
      entry.append(dot, `${line.name} `, value);
      box.append(entry);
    }
    svg.append(mark);
    box.hidden = false;
    const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
    const middle = svg.parentElement.offsetLeft + column(at) * scale;
    const beside = middle + 14 + box.offsetWidth <= figure.offsetWidth ? middle + 14 : middle - 14 - box.offsetWidth;
    box.style.left = `${Math.max(0, Math.min(beside, figure.offsetWidth - box.offsetWidth))}px`;
    box.style.top = `${svg.parentElement.offsetTop + top * scale + 6}px`;
  };

  const nearest = (event) => {
    const drawing = seen();
    if (!drawing) return -1;
    const { svg, frame } = drawing;
    const bounds = svg.getBoundingClientRect();
    const column = ((event.clientX - bounds.left) / bounds.width) * svg.viewBox.baseVal.width;
    const value = frame.x[0] + ((column - frame.field[0]) / (frame.field[2] - frame.field[0])) * (frame.x[1] - frame.x[0]);
    let best = 0;
    places.forEach((place, index) => {
      if (Math.abs(place - value) < Math.abs(places[best] - value)) best = index;
    });
    return best;
  };

  for (const { svg } of drawings) {
    svg.addEventListener("pointermove", (event) => show(nearest(event)));
    svg.addEventListener("pointerdown", (event) => show(nearest(event)));
    svg.addEventListener("pointerleave", hide);
  }
  figure.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
    if (event.key === "Escape") hide();
    if (!(event.key in steps)) return;
    event.preventDefault();
    show(shown < 0 && event.key === "ArrowLeft" ? places.length - 1 : shown + steps[event.key]);
  });
  figure.addEventListener("blur", hide);
}
