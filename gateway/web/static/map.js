// Draws the devices of the list below the map: outlines of the world from our own files, no tiles.

const box = document.getElementById("map");
const { L, topojson } = window;
const RADIUS = 7;
const ZOOM_MAX = 12;
const ZOOM_NEAR = 6; // outlines of countries still say where that is
const SITE_DIGITS = 4; // some ten metres
const NAMED_MAX = 30;
const WORST_FIRST = ["offline", "late", "online", "never"];

const map = L.map(box, {
  attributionControl: false,
  zoomControl: false,
  maxZoom: ZOOM_MAX,
  minZoom: 1,
  worldCopyJump: true,
});
L.control.zoom({ zoomInTitle: box.dataset.in, zoomOutTitle: box.dataset.out }).addTo(map);
map.setView([30, 10], 2);
const marks = L.layerGroup();

// An outline that goes over the date line goes on beyond it, instead of back across the world.
function unwrapped(ring) {
  let turn = 0;
  return ring.map(([lon, lat], index) => {
    const step = index ? lon - ring[index - 1][0] : 0;
    if (Math.abs(step) > 180) turn -= 360 * Math.sign(step);
    return [lon + turn, lat];
  });
}

function straightened(feature) {
  const { type, coordinates } = feature.geometry;
  const polygons = type === "Polygon" ? [coordinates] : coordinates;
  const made = polygons.map((rings) => rings.map(unwrapped));
  return { ...feature, geometry: { type: "MultiPolygon", coordinates: made } };
}

async function drawWorld() {
  if (!box.dataset.world || !topojson) return;
  const answer = await fetch(box.dataset.world);
  const world = await answer.json();
  const countries = topojson.feature(world, world.objects.countries).features.map(straightened);
  const land = { className: "map-land", interactive: false, weight: 1 };
  L.geoJSON(countries, { style: land }).addTo(map).bringToBack();
}

// What a popup says is copied from the list as nodes: it is text, whatever a device is called.
function said(places) {
  const inside = document.createElement("div");
  for (const place of places.slice(0, NAMED_MAX)) {
    const line = document.createElement("p");
    for (const part of place.querySelectorAll(":scope > a, :scope > .tag, :scope > small")) {
      line.append(part.cloneNode(true), " ");
    }
    inside.append(line);
  }
  if (places.length > NAMED_MAX) inside.append(`… (${places.length})`);
  return inside;
}

function named(places) {
  const name = document.createElement("bdi"); // a name cannot turn around what stands beside it
  name.textContent = places[0].querySelector("a").textContent;
  if (places.length > 1) name.append(` +${places.length - 1}`);
  return name;
}

// Devices of one site stand at one place, and are one mark: it looks as the worst of them.
function sites() {
  const found = new Map();
  for (const place of document.querySelectorAll("#places > li")) {
    const at = [Number(place.dataset.lat), Number(place.dataset.lon)];
    const key = at.map((degrees) => degrees.toFixed(SITE_DIGITS)).join(" ");
    if (!found.has(key)) found.set(key, { at, places: [] });
    found.get(key).places.push(place);
  }
  return found;
}

function worst(places) {
  const there = new Set(places.map((place) => place.dataset.presence));
  return WORST_FIRST.find((presence) => there.has(presence));
}

const drawn = new Map(); // marks by site

function draw() {
  const found = sites();
  for (const [key, mark] of drawn) {
    if (found.has(key)) continue;
    mark.remove();
    drawn.delete(key);
  }
  for (const [key, { at, places }] of found) {
    const className = `map-mark tone-${worst(places)}`;
    const before = drawn.get(key);
    if (before?.options.className === className) {
      before.setPopupContent(said(places));
      continue;
    }
    before?.remove();
    const radius = RADIUS + Math.min(8, 3 * Math.log10(places.length));
    const mark = L.circleMarker(at, { className, radius, weight: 2 });
    mark.bindPopup(said(places), { maxHeight: 240, maxWidth: 240 }).addTo(marks);
    mark.bindTooltip(() => named(places));
    drawn.set(key, mark);
  }
}

draw();
if (drawn.size) {
  const all = L.featureGroup([...drawn.values()]).getBounds();
  map.fitBounds(all, { padding: [30, 30], maxZoom: ZOOM_NEAR, animate: false });
}
await drawWorld();
marks.addTo(map);
box.dataset.ready = String(drawn.size);
document.addEventListener("refreshed", draw);
