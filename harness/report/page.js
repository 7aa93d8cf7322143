"use strict";
(() => {
  // one tip and one mark for all timelines; they float, so that nothing moves when they come and go
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.setAttribute("role", "status");
  document.body.append(tip);
  const ring = document.createElement("i");
  ring.className = "mark";
  let current = null;

  const hide = () => {
    tip.classList.remove("on");
    ring.classList.remove("on");
    current = null;
  };

  const states = { c: "connecting", w: "waiting", s: "served", p: "paused", h: "holding", m: "when the fault comes" };
  const signs = { f: "fact", q: "left", e: "ended", r: "refused", x: "wrong", t: "stale", l: "lost" };
  const order = Object.keys(signs);

  const seconds = (value) => {
    const whole = Math.round(value);
    if (value >= 120) return Math.floor(whole / 60) + " min " + String(whole % 60).padStart(2, "0") + " s";
    return value.toFixed(value < 9.995 ? 2 : 1) + " s";
  };

  const texts = [...document.querySelectorAll("#texts li")].map((entry) => entry.textContent.slice(0, -1));

  // each row's marks as the paths say: spans, then signs, in order of place; places are shares of the whole
  const read = (timeline) => {
    const [numbers, bars] = timeline.querySelectorAll(":scope > svg");
    const wide = bars.viewBox.baseVal.width;
    const rows = [...timeline.querySelectorAll("p")].map((line) => ({ line, spans: [], signs: [] }));
    for (const path of bars.querySelectorAll("path")) {
      const what = path.getAttribute("class");
      for (const [, at, row, width] of path.getAttribute("d").matchAll(/M(\d+),(\d+)h([\d-]+)/g)) {
        if (states[what]) rows[row].spans.push({ what, at: at / wide, width: width / wide });
        else if (signs[what]) rows[row].signs.push({ what, at: at / wide, width: 0 });
      }
    }
    for (const sign of numbers.querySelectorAll("use")) {
      const [at, row] = ["x", "y"].map((name) => sign.getAttribute(name).slice(0, -1) / 100);
      rows[Math.floor(row * rows.length)].signs.push({ what: sign.getAttribute("href").slice(1), at, width: 0 });
    }
    const told = timeline.dataset.t ? timeline.dataset.t.split(",") : [];
    let number = 0;
    for (const row of rows) {
      row.spans.sort((one, other) => one.at - other.at);
      row.signs.sort((one, other) => one.at - other.at || order.indexOf(one.what) - order.indexOf(other.what));
      row.marks = [...row.spans, ...row.signs];
      for (const mark of row.marks) Object.assign(mark, { row, text: texts[told[number++]] || "" });
    }
    return { timeline, bars, rows: rows.filter((row) => row.marks.length) };
  };

  // "waiting, step 2 echo: 0.04 s to 0.31 s; 64 KiB sent"
  const told = (mark, whole) => {
    const [, step, said] = /^([^;]*);?([^]*)$/.exec(mark.text);
    const from = seconds(mark.at * whole);
    const [what, when] = states[mark.what]
      ? [states[mark.what], from + " to " + seconds((mark.at + mark.width) * whole)]
      : [signs[mark.what], "at " + from];
    return what + (step && ", step " + step) + ": " + when + (said && "; " + said);
  };

  const reachOf = (mark) => (signs[mark.what] ? 5 : 0);

  // where a mark is in the window: as high as a bar, in the middle of what its row has for the picture
  const boxOf = (drawn, mark) => {
    const life = drawn.bars.getBoundingClientRect();
    const count = drawn.timeline.querySelectorAll("p").length;
    const place = [...drawn.timeline.querySelectorAll("p")].indexOf(mark.row.line);
    const middle = life.top + (place + 0.5) * life.height / count;
    const reach = reachOf(mark);
    const left = life.left + mark.at * life.width - reach;
    return { left, width: mark.width * life.width + 2 * reach, top: middle - 6, height: 12 };
  };

  const show = (drawn, mark) => {
    if (current && mark === current.mark) return;
    current = { drawn, mark };
    tip.textContent = mark.row.line.firstChild.textContent + " " + told(mark, drawn.timeline.dataset.s);
    tip.classList.add("on");
    drawn.timeline.append(ring);
    ring.classList.add("on");
    place();
  };

  const place = () => {
    const { drawn, mark } = current;
    const box = boxOf(drawn, mark);
    const whole = drawn.timeline.getBoundingClientRect();
    const row = mark.row.line.getBoundingClientRect();
    for (const [side, from] of [["left", whole.left], ["top", whole.top]]) ring.style[side] = box[side] - from + "px";
    for (const side of ["width", "height"]) ring.style[side] = box[side] + "px";
    const middle = Math.min(Math.max(box.left + box.width / 2, 0), innerWidth);
    const left = Math.min(Math.max(middle - tip.offsetWidth / 2, 4), innerWidth - tip.offsetWidth - 4);
    const above = row.top - tip.offsetHeight - 4;
    tip.style.left = Math.max(left, 4) + "px";
    tip.style.top = (above > 0 ? above : row.bottom + 4) + "px";
  };

  const inOrder = (row) => [...row.marks].sort((one, other) => one.at - other.at);

  // signs are small and lie on spans: the nearest sign within reach, else the span below, else the nearest
  const nearest = (drawn, row, x) => {
    let best = null;
    let least = Infinity;
    const life = drawn.bars.getBoundingClientRect();
    for (const mark of row.marks) {
      const reach = reachOf(mark);
      const [left, right] = [mark.at, mark.at + mark.width].map((at) => life.left + at * life.width);
      const away = Math.max(left - reach - x, x - right - reach, 0);
      const distance = signs[mark.what] ? (away < 5 ? away - 10 : away + 1) : away;
      if (distance < least) [best, least] = [mark, distance];
    }
    return best;
  };

  const under = (drawn, event) => {
    const life = drawn.bars.getBoundingClientRect();
    const within = event.clientX >= life.left - 6 && event.clientX <= life.right + 6;
    const row = within && drawn.rows.find(({ line }) => line.contains(event.target));
    if (row) show(drawn, nearest(drawn, row, event.clientX)); else hide();
  };

  const step = (drawn, key) => {
    const { rows } = drawn;
    if (!rows.length) return;
    const own = current && current.drawn === drawn ? current.mark : null;
    if (!own) return show(drawn, inOrder(rows[0])[0]);
    const marks = inOrder(own.row);
    const at = marks.indexOf(own);
    if (key === "ArrowRight") show(drawn, marks[Math.min(at + 1, marks.length - 1)]);
    else if (key === "ArrowLeft") show(drawn, marks[Math.max(at - 1, 0)]);
    else if (key === "Home") show(drawn, marks[0]);
    else if (key === "End") show(drawn, marks[marks.length - 1]);
    else {
      const to = rows[rows.indexOf(own.row) + (key === "ArrowDown" ? 1 : -1)];
      const box = boxOf(drawn, own);
      if (to) show(drawn, nearest(drawn, to, box.left + box.width / 2));
    }
    current.mark.row.line.scrollIntoView({ block: "nearest" });
  };

  const keys = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"];
  for (const timeline of document.querySelectorAll(".timeline")) {
    let known = null;
    const drawn = () => known || (known = read(timeline));
    timeline.tabIndex = 0;
    timeline.ariaLabel += "; arrow keys go from event to event";
    timeline.addEventListener("pointermove", (event) => under(drawn(), event));
    timeline.addEventListener("pointerdown", (event) => under(drawn(), event));
    timeline.addEventListener("pointerleave", hide);
    timeline.addEventListener("blur", hide);
    timeline.addEventListener("keydown", (event) => {
      if (event.key === "Escape") return hide();
      if (!keys.includes(event.key) || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      step(drawn(), event.key);
    });
  }
  addEventListener("scroll", () => {
    if (current && current.drawn.timeline === document.activeElement) place(); else hide();
  }, { passive: true });
})();
