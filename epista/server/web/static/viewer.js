/* The viewer: one image, its controls, and an address that says what is seen. */

import * as annotations from "./annotations.js";
import * as api from "./api.js";
import * as channels from "./channels.js";
import * as rendering from "./rendering.js";
import * as scale from "./scale.js";
import * as session from "./session.js";
import * as view from "./view.js";

const { OpenSeadragon } = window;
const byId = (id) => document.getElementById(id);
const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;

const version = document.body.dataset.version;
let info;
let state; // how it is drawn
let first; // how it is drawn usually, as text
let described; // the info.json of the scene
let shown = null; // what is seen of it
let coming = null; // what takes its place once it is loaded
let target = null; // where a scene is entered that is being opened
let drawing = null; // annotations
let isEnded = false;

byId("stage").hidden = false;
const endsAt = session.keep(Number(document.body.dataset.seconds), end);

// OpenSeadragon adds an inline style, which the policy of the page forbids, unless it finds this: an element that is no style.
document.head.append(document.createElementNS("urn:none", "style"));
document.head.lastChild.setAttribute("data-openseadragon-mobile-css", "");

const seadragon = OpenSeadragon({
  element: byId("image"),
  drawer: "canvas",
  showNavigationControl: false,
  keyboardNavEnabled: false,
  silenceMultiImageWarnings: true,
  gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
  animationTime: isCalm ? 0 : 0.5,
  immediateRender: isCalm,
  maxZoomPixelRatio: 16,
  visibilityRatio: 0.3,
  tileRetryMax: 2,
  tileRetryDelay: 1000,
});
const { viewport, world } = seadragon;

// --- What is seen -----------------------------------------------------------------------------------------------------------------

/** Return the zoom, in pixels of the screen for one of level 0, and its middle. */
function place(isNow) {
  const middle = viewport.getCenter(isNow);
  const zoom = (viewport.getZoom(isNow) * viewport.getContainerSize().x) / described.width;
  return { x: middle.x * described.width, y: middle.y * described.width, zoom };
}

function go({ x, y, zoom }, isAtOnce = false) {
  viewport.zoomTo((zoom * described.width) / viewport.getContainerSize().x, null, isAtOnce);
  viewport.panTo(new OpenSeadragon.Point(x / described.width, y / described.width), isAtOnce);
  viewport.applyConstraints(isAtOnce);
}

function follow() {
  if (!described) return;
  const { x, y, zoom } = place(true);
  const middle = viewport.getContainerSize().divide(2);
  // Of what is enlarged, pixels are seen as they are.
  seadragon.drawer.setImageSmoothingEnabled(zoom < 4);
  drawing?.place(middle.x - x * zoom, middle.y - y * zoom, zoom);
  const size = info.scenes[state.scene].pixel_size_um;
  if (size) scale.draw(byId("scale"), size[0] / zoom);
  else byId("scale").hidden = true;
}

const say = later(200, () => {
  if (described) history.replaceState(null, "", view.spell(place(false), changedText()));
});

/** Return how the image is drawn, if not as usual. */
function changedText() {
  const text = rendering.spell(state);
  return text === first && !state.scene ? "" : text;
}

seadragon.addHandler("update-viewport", follow);
seadragon.addHandler("resize", () => requestAnimationFrame(follow));
seadragon.addHandler("animation-finish", say);
seadragon.addHandler("zoom", say);
seadragon.addHandler("pan", say);

// --- Pixels -----------------------------------------------------------------------------------------------------------------------

const source = () => {
  const text = changedText();
  // Relative, as all addresses here: a renewed token is in the next one.
  const id = `iiif/${version}${text && `~${text}`}`;
  return new OpenSeadragon.IIIFTileSource(OpenSeadragon.IIIFTileSource.prototype.configure({ ...described, id }, id, null));
};

/** Tell whether all that shall be seen is seen. */
function tell() {
  const isThere = !coming && (hasNone() || shown?.getFullyLoaded());
  byId("stage").setAttribute("aria-busy", isThere ? "false" : "true");
}

const hasNone = () => !state.channels.some((one) => one.is_shown);

/** Draw the image as *state* says; what is seen stays until all of it is there. */
function draw() {
  drop();
  drawing?.choose(state);
  shown?.setOpacity(hasNone() ? 0 : 1);
  if (hasNone()) return tell();
  seadragon.addTiledImage({
    tileSource: source(),
    opacity: shown ? 0 : 1,
    preload: true,
    success: ({ item }) => {
      drop();
      item.addHandler("fully-loaded-change", tell);
      if (shown) {
        coming = item;
        item.whenFullyLoaded(() => item === coming && replace(item));
        // Of what comes slowly, parts are better than nothing.
        setTimeout(() => item === coming && item.setOpacity(1), 2000);
      } else {
        shown = item;
        viewport.goHome(true);
        if (target) go(target, true);
        target = null;
        say();
      }
    },
  });
}

function replace(item) {
  item.setOpacity(1);
  const old = shown;
  [shown, coming] = [item, null];
  // Not before the other one has been drawn.
  requestAnimationFrame(() => {
    requestAnimationFrame(() => {
      world.removeItem(old);
      tell();
    });
  });
}

function drop() {
  if (coming) world.removeItem(coming);
  coming = null;
}

const drawn = later(150, () => {
  draw();
  say();
});

function redraw() {
  byId("stage").setAttribute("aria-busy", "true");
  drawn();
}

seadragon.addHandler("tile-load-failed", async ({ tile, tiledImage, maxReached }) => {
  if (!maxReached || isEnded || world.getIndexOfItem(tiledImage) < 0) return;
  try {
    const why = await api.refusal(tile.getUrl());
    if (session.isOver(why)) end(why.detail);
    else if (why) warn(`A part of the image cannot be shown: ${why.message}.`);
  } catch {
    warn("The lab cannot be reached; what is missing of the image comes when it can.");
  }
});

// --- Controls ---------------------------------------------------------------------------------------------------------------------

async function openScene(number, text = "") {
  byId("stage").setAttribute("aria-busy", "true");
  const scene = info.scenes[number];
  const { reply: told } = await api.get(`rendering?scene=${number}`);
  const usually = rendering.usual(number, scene, told);
  const suffix = number ? `~${rendering.spell(usually)}` : "";
  ({ reply: described } = await api.get(`iiif/${version}${suffix}/info.json`));
  [state, first] = [usually, rendering.spell(usually)];
  if (text) rendering.apply(state, text, scene);
  drop();
  world.removeAll();
  shown = null;
  controls(scene);
  draw();
  await annotate(number);
}

function controls(scene) {
  for (const axis of ["z", "t"]) {
    const count = scene[`size_${axis}`];
    const [slider, at] = [byId(axis), byId(`${axis}-at`)];
    byId(`${axis}-plane`).hidden = count < 2;
    [slider.max, slider.value] = [count - 1, state[axis]];
    at.textContent = `${state[axis] + 1} of ${count}`;
    slider.oninput = () => {
      state[axis] = slider.valueAsNumber;
      at.textContent = `${state[axis] + 1} of ${count}`;
      redraw();
    };
  }
  byId("scene").value = state.scene;
  channels.build(byId("channels"), byId("channel"), state.channels, redraw, note);
  byId("controls").hidden = false;
}

function choose() {
  const options = info.scenes.map((scene, number) => new Option(scene.name || `Image ${number + 1}`, number));
  byId("scene").replaceChildren(...options);
  byId("scenes").hidden = options.length < 2;
  byId("scene").addEventListener("change", (event) => tried(() => openScene(Number(event.target.value))));
}

byId("controls").addEventListener("submit", (event) => event.preventDefault());
byId("reset").addEventListener("click", () => {
  const text = first;
  rendering.apply(state, text, info.scenes[state.scene]);
  controls(info.scenes[state.scene]);
  redraw();
});

const zoomBy = (factor) => {
  viewport.zoomBy(factor);
  viewport.applyConstraints();
};
const panBy = (x, y) => {
  viewport.panBy(viewport.deltaPointsFromPixels(new OpenSeadragon.Point(x, y)));
  viewport.applyConstraints();
};
const KEYS = {
  "+": () => zoomBy(1.5),
  "=": () => zoomBy(1.5),
  "-": () => zoomBy(1 / 1.5),
  0: () => viewport.goHome(isCalm),
  ArrowLeft: () => panBy(-80, 0),
  ArrowRight: () => panBy(80, 0),
  ArrowUp: () => panBy(0, -80),
  ArrowDown: () => panBy(0, 80),
};
byId("zoom-in").addEventListener("click", KEYS["+"]);
byId("zoom-out").addEventListener("click", KEYS["-"]);
byId("whole").addEventListener("click", KEYS[0]);

const canvas = seadragon.canvas;
canvas.setAttribute("role", "application");
canvas.setAttribute("aria-label", "Image: arrows move it, plus and minus zoom, 0 shows all of it");
canvas.addEventListener("keydown", (event) => {
  const act = KEYS[event.key];
  if (!act || !described || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  act();
});

byId("link").addEventListener("click", async () => {
  say.now();
  try {
    await navigator.clipboard.writeText(location.href);
    const until = endsAt().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    note(`Copied. Whoever opens it before ${until} sees this image.`);
  } catch {
    // Browsers give the clipboard to safe origins only.
    note("This browser does not let pages copy: the address above is the link.");
  }
});

window.addEventListener("hashchange", () => {
  const wanted = view.parse(location.hash);
  if (described && wanted.rendering === changedText()) return wanted.place && go(wanted.place);
  return tried(() => openWanted(wanted));
});

// --- Messages ---------------------------------------------------------------------------------------------------------------------

function warn(text) {
  byId("alert-text").textContent = text;
  byId("alert").hidden = false;
}
byId("alert-close").addEventListener("click", () => {
  byId("alert").hidden = true;
  canvas.focus();
});

function note(text) {
  byId("note").textContent = text;
  setTimeout(() => byId("note").textContent === text && (byId("note").textContent = ""), 6000);
}

function end(why) {
  if (isEnded) return;
  isEnded = true;
  warn(`This view has ended: ${why}. Open the image again where you got its address.`);
}

async function tried(act) {
  try {
    return await act();
  } catch (error) {
    if (session.isOver(error)) end(error.detail);
    else warn(`The image cannot be shown: ${error.message}.`);
    byId("stage").setAttribute("aria-busy", "false");
    return undefined;
  }
}

/** Return *act*, put off until nobody asks for it for so many *milliseconds*. */
function later(milliseconds, act) {
  let timer;
  const put = () => {
    clearTimeout(timer);
    timer = setTimeout(act, milliseconds);
  };
  put.now = () => {
    clearTimeout(timer);
    act();
  };
  return put;
}

// --- The beginning ----------------------------------------------------------------------------------------------------------------

async function annotate(scene) {
  drawing?.svg.remove();
  drawing = null;
  byId("annotated").hidden = true;
  let told;
  try {
    ({ reply: told } = await api.get(`annotations?scene=${scene}`));
  } catch (error) {
    return warn(`Annotations cannot be shown: ${error.message}.`);
  }
  const count = told.features.length;
  byId("annotated").hidden = !count && !told.warnings.length;
  const most = count > annotations.MOST ? `, of which ${annotations.MOST} are drawn` : "";
  byId("annotated-text").textContent = `${count === 1 ? "1 annotation" : `${count} annotations`}${most}`;
  byId("annotated-warnings").textContent = told.warnings.join("; ");
  if (!count) return;
  drawing = annotations.overlay(told.features);
  canvas.append(drawing.svg);
  drawing.choose(state);
  hide();
  follow();
}

const hide = () => drawing?.svg.toggleAttribute("hidden", !byId("annotations").checked);
byId("annotations").addEventListener("change", hide);

function openWanted(wanted) {
  target = wanted.place;
  return openScene(Math.min(rendering.sceneOf(wanted.rendering), info.scenes.length - 1), wanted.rendering);
}

await tried(async () => {
  ({ reply: info } = await api.get("info"));
  choose();
  canvas.focus({ preventScroll: true });
  await openWanted(view.parse(location.hash));
});
