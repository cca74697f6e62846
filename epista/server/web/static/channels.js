/* The controls of the channels: whether each is shown, in which colour, between which limits. */

import { MOST_CHANNELS } from "./rendering.js";
import { short } from "./view.js";

/** Make the controls anew for *channels*, which they change; *changed* is called after each change, *told* where there is none. */
export function build(into, template, channels, changed, told) {
  into.replaceChildren(...channels.map((one) => row(template, one, channels, changed, told)));
}

function row(template, one, channels, changed, told) {
  const made = template.content.cloneNode(true);
  const find = (wanted) => made.querySelector(wanted);
  const [shown, color, limits] = [find("input.shown"), find("input.color"), find(".limits")];
  find("legend").textContent = one.name;
  find(".name").textContent = one.name;
  color.setAttribute("aria-label", `Colour of ${one.name}`);
  color.value = `#${one.color}`;
  shown.checked = one.is_shown;
  limits.hidden = color.hidden = !one.is_shown;

  shown.addEventListener("change", () => {
    if (shown.checked && channels.filter((other) => other.is_shown).length === MOST_CHANNELS) {
      shown.checked = false;
      return told(`At most ${MOST_CHANNELS} channels are shown at once.`);
    }
    one.is_shown = shown.checked;
    limits.hidden = color.hidden = !one.is_shown;
    changed();
  });
  color.addEventListener("input", () => {
    one.color = color.value.slice(1);
    changed();
  });

  const sides = ["low", "high"].map((side) => ({
    side,
    range: find(`input.${side}[type=range]`),
    number: find(`input.${side}[type=number]`),
  }));
  const step = one.isWhole ? 1 : (one.most - one.least) / 1000 || 1;
  const show = (typed) => {
    for (const { side, range, number } of sides) {
      // What is out of reach of the slider can be typed, and is in reach then.
      [range.min, range.max, range.step, range.value] = [one.least, one.most, one.isWhole ? 1 : "any", one[side]];
      if (number !== typed) number.value = short(one[side], 7);
      number.removeAttribute("aria-invalid");
    }
  };
  for (const { side, range, number } of sides) {
    const what = side === "low" ? "Low" : "High";
    range.setAttribute("aria-label", `${what} limit of ${one.name}, slider`);
    number.setAttribute("aria-label", `${what} limit of ${one.name}`);
    const set = (value, typed) => {
      // A limit that meets the other one pushes it.
      if (side === "low") Object.assign(one, { low: value, high: Math.max(one.high, value + step) });
      else Object.assign(one, { high: value, low: Math.min(one.low, value - step) });
      Object.assign(one, { least: Math.min(one.least, one.low), most: Math.max(one.most, one.high) });
      show(typed);
      changed();
    };
    range.addEventListener("input", () => set(range.valueAsNumber));
    number.addEventListener("input", () => {
      if (Number.isFinite(number.valueAsNumber)) set(number.valueAsNumber, number);
      else number.setAttribute("aria-invalid", "true");
    });
    number.addEventListener("change", () => show());
  }
  show();
  return made;
}
