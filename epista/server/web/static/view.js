/* The view as it stands in the address: #x,y,zoom~rendering. x and y are the middle, in pixels of level 0; zoom is in pixels of the
   screen for one of those; the rendering is left out where it is the usual one. */

export function parse(hash) {
  let text = hash.replace(/^#/, "");
  try {
    text = decodeURIComponent(text);
  } catch {
    // A % of no meaning; it is no view either way.
  }
  const [where, rendering = ""] = text.split("~", 2);
  const [x, y, zoom, ...more] = where.split(",").map((part) => (part.trim() ? Number(part) : NaN));
  const isPlace = !more.length && [x, y, zoom].every(Number.isFinite) && zoom > 0;
  return { place: isPlace ? { x, y, zoom } : null, rendering };
}

export function spell({ x, y, zoom }, rendering) {
  return `#${x.toFixed(1)},${y.toFixed(1)},${short(zoom)}` + (rendering && `~${rendering}`);
}

/** Return a number in so many digits that nobody sees a difference. */
export const short = (number, digits = 4) => String(Number(number.toPrecision(digits)));
