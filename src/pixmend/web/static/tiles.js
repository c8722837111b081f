// A picture of any size, fetched in tiles: level n has the picture at the scale of 1 / 2^n, and no more is fetched than
// what is seen, at the level that the screen can show. So no canvas and no download is ever as large as the picture.

import { touch, viewUrl } from "./api.js";
import { attempt } from "./messages.js";

const SIDE = 960; // of a tile, in pixels of its level: below a megapixel the server sends it without loss
const KEPT = 64; // tiles held in memory, at most 4 MB each
const REST = 5000; // milliseconds before a tile that did not come is asked for again, if it is still seen when drawn

export class Tiles {
  #tiles = new Map(); // key -> {image, ready}, the least recently drawn first

  /**
   * base: the picture's address; place: where it lies, in the plane of the view; came: called when a tile came;
   * missing: called when one that did not come can be asked for again.
   */
  constructor(base, place, came, missing) {
    Object.assign(this, { base, place, came, missing });
    this.coarsest = Math.max(0, Math.ceil(Math.log2(Math.max(place.width, place.height) / SIDE)));
  }

  draw(context, view) {
    this.drawn = 0;
    const seen = view.visible(this.place);
    if (!seen) return;
    const level = Math.min(this.coarsest, Math.max(0, Math.floor(-Math.log2(view.scale) + 1e-6)));
    context.imageSmoothingEnabled = view.scale < 3;
    context.imageSmoothingQuality = "high";
    // The whole picture, coarsely, lies below: so nothing is empty while the tiles above come.
    if (level < this.coarsest) this.#drawLevel(context, view, seen, this.coarsest);
    this.#drawLevel(context, view, seen, level);
    this.#forget();
  }

  #drawLevel(context, view, seen, level) {
    const side = SIDE * 2 ** level; // of a tile, in the picture's pixels
    const first = [Math.floor((seen.left - this.place.left) / side), Math.floor((seen.top - this.place.top) / side)];
    for (let i = first[0]; this.place.left + i * side < seen.left + seen.width; i++) {
      for (let j = first[1]; this.place.top + j * side < seen.top + seen.height; j++) {
        const area = {
          left: i * side,
          top: j * side,
          width: Math.min(side, this.place.width - i * side),
          height: Math.min(side, this.place.height - j * side),
        };
        const { image, ready } = this.#tile(`${level}/${i}/${j}`, area, level);
        const place = { ...area, left: area.left + this.place.left, top: area.top + this.place.top };
        if (ready) context.drawImage(image, ...view.pixels(place));
      }
    }
  }

  #tile(key, area, level) {
    this.drawn += 1;
    let tile = this.#tiles.get(key);
    if (tile) {
      this.#tiles.delete(key); // and in again below, as the one used last
    } else {
      tile = { image: new Image(), ready: false };
      tile.image.src = viewUrl(this.base, { ...area, scale: 1 / 2 ** level });
      tile.image.decode().then(
        () => {
          tile.ready = true;
          this.came();
        },
        () => {
          setTimeout(() => {
            this.#tiles.delete(key);
            this.missing();
          }, REST);
          attempt(() => touch(tile.image.src)); // its error says why
        },
      );
    }
    this.#tiles.set(key, tile);
    return tile;
  }

  #forget() {
    for (const key of this.#tiles.keys()) {
      if (this.#tiles.size <= Math.max(KEPT, this.drawn)) break; // what is seen stays
      this.#tiles.delete(key);
    }
  }
}
