/* How the image is drawn: channels with colours and limits, plane and scene, as text that the addresses of tiles have. */

import { short } from "./view.js";

export const MOST_CHANNELS = 16;

/** Return the state of a scene, as usual. */
export function usual(number, scene, told) {
  const channels = told.channels.map((one) => ({
    ...one,
    isWhole: !/f/.test(scene.dtype),
    least: Math.min(one.lowest, one.low),
    most: Math.max(one.highest, one.high),
  }));
  return { scene: number, z: told.z ?? 0, t: 0, channels };
}

export function spell(state) {
  const looks = state.channels
    .filter((one) => one.is_shown)
    .map((one) => `${one.channel}:${one.color}:${short(one.low, 7)}:${short(one.high, 7)}`);
  const places = ["z", "t", "scene"].filter((axis) => state[axis]).map((axis) => `;${axis[0]}${state[axis]}`);
  return looks.join(",") + places.join("");
}

export const sceneOf = (text) => Number(/;s(\d{1,6})(;|$)/.exec(text)?.[1] ?? 0);

/** Bring *state* to what *text* says, as far as there is such a thing; what is odd in it is left. */
export function apply(state, text, scene) {
  const [looks, ...places] = text.split(";");
  const wanted = new Map(looks.split(",").map((look) => look.split(":")).map(([number, ...look]) => [number, look]));
  for (const one of state.channels) {
    const look = wanted.get(String(one.channel));
    one.is_shown = look !== undefined;
    if (look === undefined) continue;
    const [color, low, high] = [look[0], Number(look[1]), Number(look[2])];
    if (/^[0-9a-f]{6}$/i.test(color)) one.color = color.toLowerCase();
    if (Number.isFinite(low) && Number.isFinite(high) && low < high) {
      Object.assign(one, { low, high, least: Math.min(one.least, low), most: Math.max(one.most, high) });
    }
  }
  for (const axis of ["z", "t"]) {
    const found = places.map((place) => new RegExp(`^${axis}(\\d{1,9})$`).exec(place)).find(Boolean);
    state[axis] = Math.min(found ? Number(found[1]) : 0, scene[`size_${axis}`] - 1);
  }
}
