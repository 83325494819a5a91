// Shapes that several modules of the page share; for the type check alone.

type Json = Record<string, any>;

/** What `h` takes as a child; what is no node is text. */
type Child = Node | string | number | null | undefined | false | readonly Child[];

/** The answer to `GET session`. */
interface Session {
  token: string;
  api: string;
  hub: string;
  policy: string;
  bounds: Bounds | null;
  events: boolean;
  zone: string | null;
  signOut?: boolean;
}

interface Bounds {
  access: 'read' | 'operate';
  methods?: string[];
  desired?: string[];
  tags?: string[];
  where?: string;
}

type State = 'secured' | 'unsecured' | 'unknown' | 'offline';

/** A door as its twin shows it. */
interface Door {
  id: string;
  twin: Json;
  /** Another one after each change. */
  revision: number;
  building: string;
  floor: string;
  isOnline: boolean;
  isDisabled: boolean;
  hasReported: boolean;
  state: State;
  lockState: string;
  doorState: string;
  secured: string;
  proof: string;
  mode: string;
  alarms: Alarm[];
  isLockedDown: boolean;
  /** As the door reports it, and as it is desired. */
  lockdown: Json | null;
  desiredLockdown: Json | null;
  heldBy: Json | null;
  /** Of the last report, in milliseconds. */
  reportedAt: number | null;
  /** Its agent is of 0.1 and knows no lockdown. */
  isOlder: boolean;
}

interface Alarm {
  name: string;
  /** Null if the door had no clock. */
  since: string | null;
  /** The acknowledgement of this raising. */
  acknowledged: Json | null;
}

interface Counts {
  doors: number;
  secured: number;
  unsecured: number;
  unknown: number;
  offline: number;
  lockdown: number;
  alarms: number;
}

interface Place {
  building: string;
  floor: string;
  doors: Set<string>;
  counts: Counts;
}

interface View {
  title: string;
  node: HTMLElement;
  /** Draws what has changed; null is every door. */
  update: (changed: Set<string> | null) => void;
  close?: () => void;
}

/** What came of an action. */
interface Outcome {
  tone: 'good' | 'bad' | 'doubt' | 'plain';
  text: string;
}

/** What a command brings a door to. */
type Goal = 'secured' | 'released' | 'done' | 'changed';

/** A filled slot, or the default. */
interface SlotRow {
  slot: number | null;
  name: string;
  wants: string;
  by: string;
  until: string | null;
  effect: 'decides' | 'overruled';
  command: string;
}

/** Doors, as the hub selects them and as they are known. */
interface DoorSelection {
  condition: string;
  doors: Door[];
}

/** Jobs that belong together, and the timed entry that they give to doors. */
interface JobGroup {
  id: string;
  jobs: Json[];
  staged: Json | null;
}

/** The doors of a lockdown. */
interface Muster {
  id: string;
  lockdown: Json;
  doors: Door[];
}
