"use strict";
(() => {
  // one tip for all timelines; it floats, so that nothing moves when it comes and goes
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.setAttribute("role", "status");
  document.body.append(tip);
  let current = null;

  const hide = () => {
    tip.classList.remove("on");
    if (current) current.classList.remove("on");
    current = null;
  };

  const states = { c: "connecting", w: "waiting", p: "paused", h: "holding", m: "when the fault comes" };
  const moments = { f: "fact", r: "refused", x: "wrong", t: "stale", l: "lost", q: "left", e: "ended" };

  const seconds = (value) => {
    const whole = Math.round(value);
    if (value >= 120) return Math.floor(whole / 60) + " min " + String(whole % 60).padStart(2, "0") + " s";
    return value.toFixed(value < 9.995 ? 2 : 1) + " s";
  };

  const texts = [...document.querySelectorAll("#texts li")].map((entry) => entry.textContent.slice(0, -1));
  const marks = "rect[width], use";

  // "waiting, step 2 echo: 0.04 s to 0.31 s; 64 KiB sent": places are in percent, what was told is a text's number
  const told = (mark) => {
    const timeline = mark.closest(".timeline");
    const number = timeline.dataset.t.split(",")[[...timeline.querySelectorAll(marks)].indexOf(mark)];
    const [, step, said] = /^([^;]*);?([^]*)$/.exec(texts[number] || "");
    const at = (name) => mark.getAttribute(name).slice(0, -1) / 100 * timeline.dataset.s;
    const [what, when] = mark.tagName === "rect"
      ? [states[mark.classList[0]] || "served", seconds(at("x")) + " to " + seconds(at("x") + at("width"))]
      : [moments[mark.getAttribute("href").slice(1)], "at " + seconds(at("x"))];
    return what + (step && ", step " + step) + ": " + when + (said && "; " + said);
  };

  const show = (mark) => {
    if (mark === current) return;
    if (current) current.classList.remove("on");
    current = mark;
    mark.classList.add("on");
    const line = mark.closest(".rows > p");
    tip.textContent = line.firstChild.textContent + " " + told(mark);
    tip.classList.add("on");
    place();
  };

  const place = () => {
    const box = current.getBoundingClientRect();
    const row = current.closest(".rows > p").getBoundingClientRect();
    const middle = Math.min(Math.max(box.left + box.width / 2, 0), innerWidth);
    const left = Math.min(Math.max(middle - tip.offsetWidth / 2, 4), innerWidth - tip.offsetWidth - 4);
    const above = row.top - tip.offsetHeight - 4;
    tip.style.left = Math.max(left, 4) + "px";
    tip.style.top = (above > 0 ? above : row.bottom + 4) + "px";
  };

  const inOrder = (line) => [...line.querySelectorAll(marks)].sort((one, other) =>
    one.getBoundingClientRect().left - other.getBoundingClientRect().left);

  // signs are small and lie on spans: the nearest sign within reach, else the span below, else the nearest
  const nearest = (line, x) => {
    let best = null;
    let least = Infinity;
    for (const mark of line.querySelectorAll(marks)) {
      const box = mark.getBoundingClientRect();
      const sign = mark.tagName === "use";
      const away = Math.max(box.left - x, x - box.right, 0);
      const distance = sign ? (away < 5 ? away - 10 : away + 1) : away;
      if (distance < least) [best, least] = [mark, distance];
    }
    return best;
  };

  const under = (event) => {
    const line = event.target.closest(".rows > p");
    const life = line && line.querySelector("svg");
    const mark = life && life.contains(event.target) && nearest(line, event.clientX);
    if (mark) show(mark); else hide();
  };

  const step = (timeline, key) => {
    const lines = [...timeline.querySelectorAll("p")].filter((line) => line.querySelector(marks));
    if (!lines.length) return;
    const line = current && timeline.contains(current) ? current.closest(".rows > p") : null;
    if (!line) return show(inOrder(lines[0])[0]);
    const own = inOrder(line);
    const at = own.indexOf(current);
    if (key === "ArrowRight") show(own[Math.min(at + 1, own.length - 1)]);
    else if (key === "ArrowLeft") show(own[Math.max(at - 1, 0)]);
    else if (key === "Home") show(own[0]);
    else if (key === "End") show(own[own.length - 1]);
    else {
      const to = lines[lines.indexOf(line) + (key === "ArrowDown" ? 1 : -1)];
      const box = current.getBoundingClientRect();
      if (to) show(nearest(to, box.left + box.width / 2));
    }
    current.closest(".rows > p").scrollIntoView({ block: "nearest" });
  };

  const keys = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"];
  for (const timeline of document.querySelectorAll(".timeline")) {
    timeline.tabIndex = 0;
    timeline.ariaLabel += "; arrow keys go from event to event";
    timeline.addEventListener("pointermove", under);
    timeline.addEventListener("pointerdown", under);
    timeline.addEventListener("pointerleave", hide);
    timeline.addEventListener("blur", hide);
    timeline.addEventListener("keydown", (event) => {
      if (event.key === "Escape") return hide();
      if (!keys.includes(event.key) || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      step(timeline, event.key);
    });
  }
  addEventListener("scroll", () => {
    if (current && current.closest(".timeline") === document.activeElement) place(); else hide();
  }, { passive: true });
})();
