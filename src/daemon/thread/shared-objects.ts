/**
 * What all code of a thread shares: global names, the methods of arrays, maps, texts, and the switch's own classes (modules/rooms.ts). A user's extension that changes them changes the switch. Freezing
 * them costs half of the packets per second, so they are compared with what they were; the comparison is of constants, which the compiler folds. What
 * cannot be put back, because it was frozen or cannot be configured any more, counts from then on as what it was, so that it is told once.
 */

import { EventEmitter } from 'node:events';
import { MessagePort } from 'node:worker_threads';

/** Global names that the switch, and what it stands on, relies on. */
const GLOBALS = {
  Array,
  ArrayBuffer,
  Atomics,
  BigInt,
  Boolean,
  Buffer,
  DataView,
  Date,
  Error,
  Float64Array,
  Int32Array,
  JSON,
  Map,
  Math,
  Number,
  Object,
  Promise,
  Proxy,
  RangeError,
  Reflect,
  RegExp,
  Set,
  SharedArrayBuffer,
  String,
  Symbol,
  TypeError,
  Uint8Array,
  Uint16Array,
  Uint32Array,
  WeakMap,
  WeakSet,
  performance,
  process,
} as const;

/** What no global name leads to, and everything relies on: what loops over arrays, maps and texts go by, and what threads and events are made of. */
const UNNAMED: readonly [string, object][] = [
  ['TypedArray.prototype', prototypeOf(Uint8Array.prototype)],
  ['TypedArray', prototypeOf(Uint8Array)],
  ['the prototype of iterators', prototypeOf(prototypeOf([][Symbol.iterator]()))],
  ['the prototype of array iterators', prototypeOf([][Symbol.iterator]())],
  ['the prototype of map iterators', prototypeOf(new Map()[Symbol.iterator]())],
  ['the prototype of set iterators', prototypeOf(new Set()[Symbol.iterator]())],
  ['the prototype of string iterators', prototypeOf(''[Symbol.iterator]())],
  ['the prototype of generators', prototypeOf(prototypeOf((function* () {})()))],
  ['Performance.prototype', prototypeOf(performance)],
  ['Function.prototype', Function.prototype],
  ['MessagePort.prototype', MessagePort.prototype],
  ['EventEmitter.prototype', EventEmitter.prototype],
];

/** What anybody may set, and what Node itself sets now and then: of `process` calls alone are looked at. */
function isFree(name: string, key: PropertyKey, property: PropertyDescriptor | undefined): boolean {
  if (name === 'Error') return key === 'stackTraceLimit';
  return name === 'process' && (property === undefined || typeof property.value !== 'function');
}

/** Objects whose own properties are compared one by one, where there is time for it. The prototype of all objects is the first. */
function everythingShared(): [string, object][] {
  const shared = new Map<object, string>([[Object.prototype, 'Object.prototype']]);
  for (const [name, value] of Object.entries<object>(GLOBALS)) {
    shared.set(value, name);
    const prototype: unknown = Reflect.get(value, 'prototype');
    if (typeof prototype === 'object' && prototype !== null && !shared.has(prototype)) {
      shared.set(prototype, `${name}.prototype`);
    }
  }
  for (const [name, object] of UNNAMED) if (!shared.has(object)) shared.set(object, name);
  return [...shared].map(([object, name]) => [name, object]);
}

function prototypeOf(object: object): object {
  return Object.getPrototypeOf(object) as object;
}

const ofObject = { ...methodsOf(Object.prototype, ['hasOwnProperty', 'toString', 'valueOf']) };
const ofArray = methodsOf(Array.prototype, [
  'push',
  'pop',
  'shift',
  'splice',
  'slice',
  'map',
  'filter',
  'find',
  'some',
  'forEach',
  'indexOf',
  'includes',
  'join',
  'sort',
]);
const ofMap = methodsOf(Map.prototype, ['get', 'set', 'has', 'delete', 'clear', 'values', 'entries']);
const ofSet = methodsOf(Set.prototype, ['add', 'has', 'delete', 'clear', 'values']);
const iterateArray = Array.prototype[Symbol.iterator];

const ofDataView = methodsOf(DataView.prototype, [
  'getUint8',
  'getUint16',
  'getUint32',
  'getInt32',
  'getBigUint64',
  'setUint8',
  'setUint16',
  'setUint32',
  'setBigUint64',
]);
const ofBytes = methodsOf(Uint8Array.prototype, ['set', 'subarray', 'slice', 'fill', 'copyWithin']);
const arrayIterator = prototypeOf([][Symbol.iterator]()) as ArrayIterator<unknown>;
const mapIterator = prototypeOf(new Map()[Symbol.iterator]()) as MapIterator<unknown>;
const setIterator = prototypeOf(new Set()[Symbol.iterator]()) as SetIterator<unknown>;
const { next: nextOfArray } = arrayIterator;
const { next: nextOfMap } = mapIterator;
const { next: nextOfSet } = setIterator;
const { now } = performance;
const today = Date.now;

function methodsOf<T extends object, K extends keyof T>(object: T, names: readonly K[]): Pick<T, K> {
  const methods = {} as Pick<T, K>;
  for (const name of names) methods[name] = object[name];
  return methods;
}

/** Compares what is shared with what it was when this was made, and puts it back. */
export class SharedObjects {
  readonly #were: readonly SharedRecord[];
  /** Global names that mean what they did, or can be made to; null for others. */
  readonly #globals: (keyof typeof GLOBALS | null)[] = Object.keys(GLOBALS) as (keyof typeof GLOBALS)[];
  #lasts = false;
  /** Something has changed for good, which the quick look would find again and again. */
  #isBeyond = false;

  /** @param more by name, what is looked at beside what the language and Node share: classes of the switch */
  constructor(more: readonly (readonly [string, object])[] = []) {
    this.#were = [...everythingShared(), ...more].map(([name, object]) => recordOf(name, object));
  }

  /** Whether something of what was told last could not be put back. */
  get lasts(): boolean {
    return this.#lasts;
  }

  /** A look that takes no time to speak of: at the methods and names that packets depend on, and for names added to every object. */
  spoilt(): string | null {
    return this.#isBeyond || this.#isSame() ? null : this.repair();
  }

  #isSame(): boolean {
    try {
      return areGlobalsSame() && areMethodsSame() && !hasAddedName(this.#named);
    } catch {
      // A name that was deleted throws.
      return false;
    }
  }

  /** Enumerable names that every object has for good. */
  get #named(): number {
    return this.#were[OBJECT_PROTOTYPE].enumerable;
  }

  /** Look at everything, and put back what was changed. @returns what that was; null for nothing */
  repair(): string | null {
    // Plain loops over the saved lists: what they would call may be what was changed.
    let changed: string | null = null;
    let lasts: string | null = null;
    for (let i = 0; i < this.#globals.length; i += 1) {
      const name = this.#globals[i];
      if (name === null) continue;
      const value = GLOBALS[name];
      if (realm[name] === value) continue;
      changed ??= `globalThis.${name}`;
      // Some are kept behind a getter and a setter.
      set(realm, name, value);
      if (realm[name] !== value) defineProperty(realm, name, { value, writable: true, configurable: true });
      if (realm[name] === value) continue;
      lasts ??= `globalThis.${name}`;
      this.#globals[i] = null;
    }
    for (let i = 0; i < this.#were.length; i += 1) {
      const record = this.#were[i];
      const { found, lasting } = putBack(record);
      if (found !== null && changed === null) changed = `${record.name}.${found}`;
      if (lasting !== null && lasts === null) lasts = `${record.name}.${lasting}`;
    }
    if (changed === null) return null;
    this.#lasts = lasts !== null;
    this.#isBeyond ||= this.#lasts;
    const end = lasts === null ? 'it was put back' : `${lasts} cannot be put back`;
    return `it changed ${changed.replace(/\.itself$/, '')}, which all code of the switch shares; ${end}`;
  }
}

const EMPTY = {};
const realm = globalThis as unknown as Record<string, unknown>;
const { ownKeys, getOwnPropertyDescriptor, defineProperty, deleteProperty, isExtensible, set } = Reflect;
const { is: same } = Object;
const toText = String;
const OBJECT_PROTOTYPE = 0;

function areGlobalsSame(): boolean {
  return (
    Array === GLOBALS.Array &&
    Atomics === GLOBALS.Atomics &&
    BigInt === GLOBALS.BigInt &&
    Buffer === GLOBALS.Buffer &&
    DataView === GLOBALS.DataView &&
    Date === GLOBALS.Date &&
    Error === GLOBALS.Error &&
    Int32Array === GLOBALS.Int32Array &&
    JSON === GLOBALS.JSON &&
    Map === GLOBALS.Map &&
    Math === GLOBALS.Math &&
    Number === GLOBALS.Number &&
    Object === GLOBALS.Object &&
    Promise === GLOBALS.Promise &&
    RangeError === GLOBALS.RangeError &&
    Reflect === GLOBALS.Reflect &&
    Set === GLOBALS.Set &&
    String === GLOBALS.String &&
    TypeError === GLOBALS.TypeError &&
    Uint8Array === GLOBALS.Uint8Array &&
    Uint32Array === GLOBALS.Uint32Array &&
    WeakMap === GLOBALS.WeakMap &&
    performance === GLOBALS.performance &&
    process === GLOBALS.process
  );
}

function hasAddedName(known: number): boolean {
  let names = 0;
  for (const _ in EMPTY) names += 1;
  return names !== known;
}

function areMethodsSame(): boolean {
  const array = Array.prototype;
  const map = Map.prototype;
  const set = Set.prototype;
  const object = Object.prototype;
  const view = DataView.prototype;
  const bytes = Uint8Array.prototype;
  return (
    performance.now === now &&
    Date.now === today &&
    view.getUint8 === ofDataView.getUint8 &&
    view.getUint16 === ofDataView.getUint16 &&
    view.getUint32 === ofDataView.getUint32 &&
    view.getInt32 === ofDataView.getInt32 &&
    view.getBigUint64 === ofDataView.getBigUint64 &&
    view.setUint8 === ofDataView.setUint8 &&
    view.setUint16 === ofDataView.setUint16 &&
    view.setUint32 === ofDataView.setUint32 &&
    view.setBigUint64 === ofDataView.setBigUint64 &&
    bytes.set === ofBytes.set &&
    bytes.subarray === ofBytes.subarray &&
    bytes.slice === ofBytes.slice &&
    bytes.fill === ofBytes.fill &&
    bytes.copyWithin === ofBytes.copyWithin &&
    arrayIterator.next === nextOfArray &&
    mapIterator.next === nextOfMap &&
    setIterator.next === nextOfSet &&
    array.push === ofArray.push &&
    array.pop === ofArray.pop &&
    array.shift === ofArray.shift &&
    array.splice === ofArray.splice &&
    array.slice === ofArray.slice &&
    array.map === ofArray.map &&
    array.filter === ofArray.filter &&
    array.find === ofArray.find &&
    array.some === ofArray.some &&
    array.forEach === ofArray.forEach &&
    array.indexOf === ofArray.indexOf &&
    array.includes === ofArray.includes &&
    array.join === ofArray.join &&
    array.sort === ofArray.sort &&
    array[Symbol.iterator] === iterateArray &&
    map.get === ofMap.get &&
    map.set === ofMap.set &&
    map.has === ofMap.has &&
    map.delete === ofMap.delete &&
    map.clear === ofMap.clear &&
    map.values === ofMap.values &&
    map.entries === ofMap.entries &&
    set.add === ofSet.add &&
    set.has === ofSet.has &&
    set.delete === ofSet.delete &&
    set.clear === ofSet.clear &&
    set.values === ofSet.values &&
    object.hasOwnProperty === ofObject.hasOwnProperty &&
    object.toString === ofObject.toString &&
    object.valueOf === ofObject.valueOf
  );
}

/** What an object was. */
interface SharedRecord {
  readonly name: string;
  readonly object: object;
  readonly properties: Record<PropertyKey, PropertyDescriptor>;
  isExtensible: boolean;
  /** How many of its properties are enumerable, and have names. */
  enumerable: number;
}

function recordOf(name: string, object: object): SharedRecord {
  const properties = Object.create(null) as Record<PropertyKey, PropertyDescriptor>;
  for (const key of ownKeys(object)) {
    const property = getOwnPropertyDescriptor(object, key);
    if (property !== undefined && !isFree(name, key, property)) properties[key] = property;
  }
  return { name, object, properties, isExtensible: isExtensible(object), enumerable: Object.keys(object).length };
}

/** @returns a property that had been changed, and one that stays so; null for none */
function putBack(record: SharedRecord): { found: string | null; lasting: string | null } {
  const { name, object, properties } = record;
  let found: string | null = null;
  let lasting: string | null = null;
  const keys = ownKeys(object);
  for (let i = 0; i < keys.length; i += 1) {
    const key = keys[i];
    if (getOwnPropertyDescriptor(properties, key) !== undefined || isFree(name, key, undefined)) continue;
    found = toText(key);
    if (deleteProperty(object, key)) continue;
    lasting = found;
    const added = getOwnPropertyDescriptor(object, key);
    if (added === undefined) continue;
    properties[key] = added;
    if (added.enumerable === true && typeof key === 'string') record.enumerable += 1;
  }
  const before = ownKeys(properties);
  for (let i = 0; i < before.length; i += 1) {
    const key = before[i];
    const was = properties[key];
    const now = getOwnPropertyDescriptor(object, key);
    if (now !== undefined && isAlike(now, was)) continue;
    found = toText(key);
    if (defineProperty(object, key, was)) continue;
    lasting = found;
    if (now === undefined) deleteProperty(properties, key);
    else properties[key] = now;
  }
  if (isExtensible(object) !== record.isExtensible) {
    record.isExtensible = isExtensible(object);
    found ??= 'itself';
    lasting ??= 'itself';
  }
  return { found, lasting };
}

function isAlike(a: PropertyDescriptor, b: PropertyDescriptor): boolean {
  return (
    same(a.value, b.value) &&
    a.get === b.get &&
    a.set === b.set &&
    a.writable === b.writable &&
    a.configurable === b.configurable
  );
}
