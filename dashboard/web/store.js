// All doors that the policy sees, by id and by place, with counts that follow each change.

import { applyTwinEvent, comparePlaces, isCurrent, readDoor } from './model.js';

function zero() {
  return {
    doors: 0,
    secured: 0,
    unsecured: 0,
    unknown: 0,
    offline: 0,
    lockdown: 0,
    alarms: 0,
  };
}

/** @param {Iterable<Counts>} each */
export function sum(each) {
  const total = zero();
  for (const counts of each) {
    for (const name of /** @type {(keyof Counts)[]} */ (Object.keys(total))) {
      total[name] += counts[name];
    }
  }
  return total;
}

export class Store {
  constructor() {
    /** @type {Map<string, Door>} */
    this.doors = new Map();
    /** @type {Map<string, Place>} */
    this.places = new Map();
    /** Ids of doors in alarm, and of those that have or are to have a lockdown. */
    this.alarmed = /** @type {Set<string>} */ (new Set());
    this.lockedDown = /** @type {Set<string>} */ (new Set());
    this.total = zero();
    /** @type {(changed: string | null) => void} null: all doors */
    this.onChange = () => {};
  }

  /** @param {Iterable<Json>} twins */
  replace(twins) {
    this.doors.clear();
    this.places.clear();
    this.alarmed.clear();
    this.lockedDown.clear();
    this.total = zero();
    for (const twin of twins) this.#add(readDoor(twin));
    this.onChange(null);
  }

  /**
   * Takes a twin that was read, unless a newer one is known.
   *
   * @param {Json} twin
   */
  put(twin) {
    const known = this.doors.get(twin.deviceId);
    if (isCurrent(twin, known?.twin)) this.#change(known, twin);
  }

  /** @param {string} id */
  remove(id) {
    const door = this.doors.get(id);
    if (!door) return;
    this.#take(door);
    this.onChange(id);
  }

  /**
   * Applies an event; true: the twin has to be read again.
   *
   * @param {Json} event
   */
  apply(event) {
    const id = event.deviceId;
    const door = this.doors.get(id);
    const type = event.properties?.opType;
    switch (event.kind) {
      case 'twin': {
        if (!door || type !== 'updateTwin') return true;
        const result = applyTwinEvent(door.twin, event.body ?? {});
        if (result === 'applied') this.#change(door, door.twin);
        return result === 'gap';
      }
      case 'connection': {
        if (!door) return true;
        const state = { deviceConnected: 'Connected', deviceDisconnected: 'Disconnected' }[
          /** @type {string} */ (type)
        ];
        if (state && door.twin.connectionState !== state) {
          door.twin.connectionState = state;
          this.#change(door, door.twin);
        }
        return false;
      }
      case 'device':
        // A device that is created again begins with version 1 again.
        if (type === 'deleteDeviceIdentity' || type === 'createDeviceIdentity') this.remove(id);
        return type !== 'deleteDeviceIdentity';
      default:
        return false;
    }
  }

  /** @param {Door | undefined} before @param {Json} twin */
  #change(before, twin) {
    if (before) this.#take(before);
    this.#add(readDoor(twin));
    this.onChange(twin.deviceId);
  }

  /** @param {Door} door */
  #add(door) {
    this.doors.set(door.id, door);
    const key = placeKey(door.building, door.floor);
    let place = this.places.get(key);
    if (!place) {
      const { building, floor } = door;
      place = { building, floor, doors: new Set(), counts: zero() };
      this.places.set(key, place);
    }
    place.doors.add(door.id);
    if (door.alarms.length > 0) this.alarmed.add(door.id);
    if (door.isLockedDown || door.desiredLockdown) this.lockedDown.add(door.id);
    this.#count(door, place, 1);
  }

  /** @param {Door} door */
  #take(door) {
    this.doors.delete(door.id);
    this.alarmed.delete(door.id);
    this.lockedDown.delete(door.id);
    const key = placeKey(door.building, door.floor);
    const place = this.places.get(key);
    if (!place) return;
    place.doors.delete(door.id);
    this.#count(door, place, -1);
    if (place.doors.size === 0) this.places.delete(key);
  }

  /** @param {Door} door @param {Place} place @param {number} by */
  #count(door, place, by) {
    for (const counts of [place.counts, this.total]) {
      counts.doors += by;
      counts[door.state] += by;
      if (door.isLockedDown) counts.lockdown += by;
      if (door.alarms.length > 0) counts.alarms += by;
    }
  }

  /**
   * The doors of these ids that are still there.
   *
   * @param {Iterable<string>} ids
   */
  of(ids) {
    const doors = [];
    for (const id of ids) {
      const door = this.doors.get(id);
      if (door) doors.push(door);
    }
    return doors;
  }

  /** @param {string} [building] */
  sortedPlaces(building) {
    const places = [...this.places.values()];
    return places
      .filter((place) => building === undefined || place.building === building)
      .sort((a, b) => comparePlaces(a.building, b.building) || comparePlaces(a.floor, b.floor));
  }

  buildings() {
    return [...new Set(this.sortedPlaces().map((place) => place.building))];
  }

  /**
   * The doors of a building, or of one of its floors.
   *
   * @param {string | null} building null: every one
   * @param {string | null} floor
   */
  at(building, floor) {
    if (building === null && floor === null) return [...this.doors.values()];
    const places = [...this.places.values()].filter(
      (place) =>
        (building === null || place.building === building) &&
        (floor === null || place.floor === floor),
    );
    return places.flatMap((place) => this.of(place.doors));
  }
}

/** @param {string} building @param {string} floor */
function placeKey(building, floor) {
  return JSON.stringify([building, floor]);
}

export const store = new Store();
