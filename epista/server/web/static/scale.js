/* The scale bar: a round length, at most 160 px wide. */

const WIDEST = 160;
const UNITS = [["m", 1e6], ["cm", 1e4], ["mm", 1e3], ["µm", 1], ["nm", 1e-3]];

/** Set the width and text of *bar* where one pixel of the screen is *um* micrometres wide. */
export function draw(bar, um) {
  const most = um * WIDEST;
  const power = 10 ** Math.floor(Math.log10(most));
  const length = [5, 2, 1].map((factor) => factor * power).find((one) => one <= most) ?? power;
  const [unit, size] = UNITS.find(([, one]) => length >= one * 0.9999) ?? UNITS.at(-1);
  bar.style.width = `${length / um}px`;
  bar.textContent = `${Number((length / size).toPrecision(3))} ${unit}`;
  bar.hidden = false;
}
