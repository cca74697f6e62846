/* Annotations: a GeoJSON FeatureCollection in pixels of level 0, drawn over the image. */

const SVG = "http://www.w3.org/2000/svg";

/** How many are drawn; browsers slow down beyond. */
export const MOST = 5000;

/** Return a drawing of *features*; `place` moves it to where the image is, `choose` to a plane. */
export function overlay(features) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "shapes");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${features.length} annotations`);
  const group = svg.appendChild(document.createElementNS(SVG, "g"));
  for (const feature of features.slice(0, MOST)) {
    const { lines, points } = paths(feature.geometry);
    if (lines) group.append(shape(lines, "line", feature));
    if (points) group.append(shape(points, "point", feature));
  }
  const place = (x, y, scale) => group.setAttribute("transform", `translate(${x} ${y}) scale(${scale})`);
  /** Show what was drawn on the planes that are seen, or on all of them. */
  const choose = (planes) => {
    for (const one of group.children) {
      const isElsewhere = ["z", "t"].some((axis) => one.dataset[axis] !== undefined && Number(one.dataset[axis]) !== planes[axis]);
      one.toggleAttribute("hidden", isElsewhere);
    }
  };
  return { svg, place, choose };
}

function shape(path, kind, { geometry, properties }) {
  const made = document.createElementNS(SVG, "path");
  made.setAttribute("class", kind);
  made.setAttribute("d", path);
  for (const axis of ["z", "t"]) {
    const at = properties?.[axis] ?? geometry.plane?.[axis];
    if (Number.isInteger(at)) made.dataset[axis] = at;
  }
  const color = properties?.color ?? properties?.classification?.color ?? properties?.stroke;
  const stroke = spelt(color);
  if (stroke) made.style.stroke = stroke;
  const name = [properties?.name, properties?.classification?.name].filter((one) => typeof one === "string" && one).join(", ");
  if (name) made.appendChild(document.createElementNS(SVG, "title")).textContent = name;
  return made;
}

/** Return a colour that is surely one: QuPath has three numbers, others #rrggbb. */
function spelt(color) {
  if (Array.isArray(color) && color.length === 3) return `rgb(${color.map((part) => Number(part) & 255).join(" ")})`;
  return /^#[0-9a-f]{6}$/i.test(color) ? color : "";
}

/** Return the lines and the points of a geometry, as data of SVG paths. */
function paths(geometry) {
  const [lines, points] = [[], []];
  const line = (places, end) => lines.push(`M${places.map(pair).join("L")}${end}`);
  const walk = ({ type, coordinates, geometries }) => {
    if (type === "Point") points.push(`M${pair(coordinates)}h0`);
    else if (type === "MultiPoint") coordinates.forEach((one) => walk({ type: "Point", coordinates: one }));
    else if (type === "LineString") line(coordinates, "");
    else if (type === "MultiLineString") coordinates.forEach((one) => line(one, ""));
    else if (type === "Polygon") coordinates.forEach((one) => line(one, "Z"));
    else if (type === "MultiPolygon") coordinates.flat().forEach((one) => line(one, "Z"));
    else geometries?.forEach(walk);
  };
  if (geometry) walk(geometry);
  return { lines: lines.join(""), points: points.join("") };
}

const pair = ([x, y]) => `${Number(x)},${Number(y)}`;
