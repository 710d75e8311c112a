/**
 * What all code of a thread shares: the methods of arrays, maps, texts. A user's extension that changes them changes the switch. Freezing them costs
 * half of the packets per second, so they are compared with what they were; the comparison is of constants, which the compiler folds.
 */

/** Objects whose own properties are compared one by one, where there is time for it. */
const SHARED: readonly [string, object][] = [
  ['Object.prototype', Object.prototype],
  ['Function.prototype', Function.prototype],
  ['Array.prototype', Array.prototype],
  ['Map.prototype', Map.prototype],
  ['Set.prototype', Set.prototype],
  ['String.prototype', String.prototype],
  ['Number.prototype', Number.prototype],
  ['Promise.prototype', Promise.prototype],
  ['Uint8Array.prototype', Uint8Array.prototype],
  ['TypedArray.prototype', Object.getPrototypeOf(Uint8Array.prototype) as object],
  ['Object', Object],
  ['Array', Array],
  ['Number', Number],
  ['JSON', JSON],
  ['Math', Math],
  ['Reflect', Reflect],
  ['Atomics', Atomics],
];

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

function methodsOf<T extends object, K extends keyof T>(object: T, names: readonly K[]): Pick<T, K> {
  const methods = {} as Pick<T, K>;
  for (const name of names) methods[name] = object[name];
  return methods;
}

/** Compares what is shared with what it was when this was made, and puts it back. */
export class SharedObjects {
  readonly #were = SHARED.map(([name, object]) => ({
    name,
    object,
    properties: Object.getOwnPropertyDescriptors(object) as Record<PropertyKey, PropertyDescriptor>,
  }));

  /** A look that takes no time to speak of: at the methods that packets depend on, and for names added to every object. */
  spoilt(): string | null {
    return this.#isSame() ? null : this.repair();
  }

  #isSame(): boolean {
    const array = Array.prototype;
    const map = Map.prototype;
    const set = Set.prototype;
    const object = Object.prototype;
    for (const _ in EMPTY) return false;
    return (
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

  /** Look at everything, and put back what was changed. @returns what that was; null for nothing */
  repair(): string | null {
    // Plain loops over the saved lists: what they would call may be what was changed.
    let changed: string | null = null;
    for (let i = 0; i < this.#were.length; i += 1) {
      const { name, object, properties } = this.#were[i];
      const found = putBack(object, properties);
      if (found !== null && changed === null) changed = `${name}.${found}`;
    }
    return changed === null ? null : `it changed ${changed}, which all code of the switch shares; it was put back`;
  }
}

const EMPTY = {};
const { ownKeys, getOwnPropertyDescriptor, defineProperty, deleteProperty } = Reflect;
const { is: same } = Object;

/** @returns the first property that had been changed or added; null for none */
function putBack(object: object, properties: Record<PropertyKey, PropertyDescriptor>): string | null {
  let changed: string | null = null;
  const keys = ownKeys(object);
  for (let i = 0; i < keys.length; i += 1) {
    if (getOwnPropertyDescriptor(properties, keys[i]) !== undefined) continue;
    changed = String(keys[i]);
    deleteProperty(object, keys[i]);
  }
  const before = ownKeys(properties);
  for (let i = 0; i < before.length; i += 1) {
    const was = properties[before[i]];
    const now = getOwnPropertyDescriptor(object, before[i]);
    if (now !== undefined && same(now.value, was.value) && now.get === was.get && now.set === was.set) continue;
    changed = String(before[i]);
    defineProperty(object, before[i], was);
  }
  return changed;
}
