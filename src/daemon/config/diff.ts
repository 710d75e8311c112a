/**
 * The way from one configuration to another: an ordered list of steps, each with the operation that takes it back. The control thread
 * sends the operations to the datapath (../control/apply.ts); the order is such that each is valid when its turn comes.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Config, Extension, OffloadMode, Port, StaticAddress } from './model.ts';

/** One change of the running switch. */
export type Operation =
  | { op: 'port-add'; name: string; port: Port }
  | { op: 'port-del'; name: string }
  /** Change policies in place; kind and device stay. */
  | { op: 'port-set'; name: string; port: Port }
  /** Insert so that it has this index in the list of all extensions. */
  | {
      op: 'extension-add';
      extension: Extension;
      index: number;
      /** It is not started, because of what it did before; a sentence. */
      heldBack?: string;
    }
  | { op: 'extension-del'; name: string }
  | { op: 'extension-enable'; name: string; enabled: boolean }
  | { op: 'extension-configure'; name: string; config: Record<string, unknown> }
  | { op: 'extension-move'; name: string; index: number }
  | { op: 'fdb-settings'; ageingSeconds: number; maximum: number }
  | { op: 'fdb-add'; entry: StaticAddress }
  | { op: 'fdb-del'; entry: StaticAddress }
  | { op: 'offload'; mode: OffloadMode }
  | { op: 'connections'; maximum: number };

/** An operation, what undoes it, and a sentence for people. */
export interface Step {
  operation: Operation;
  undo: Operation;
  text: string;
}

/** What of a port cannot change while it exists: everything that is not a policy. */
const POLICY_KEYS = [
  'vlan',
  'security',
  'acl',
  'addressBinding',
  'dhcpGuard',
  'routerGuard',
  'mirror',
  'rateLimit',
  'isolation',
  'routingDomains',
  'profile',
  'custom',
  'learning',
  'ovsName',
  'offload',
] as const;

/** The settings in which two ports differ that a port in use cannot change. */
export function fixedChanges(from: Port, to: Port): string[] {
  const policies = policyKeysOf(to);
  return changedKeys(from, to).filter((key) => !policies.includes(key));
}

function withoutPolicies(port: Port): object {
  const rest: Record<string, unknown> = { ...port };
  for (const key of policyKeysOf(port)) delete rest[key];
  return rest;
}

/** A TAP's `mac` is that of its device; elsewhere it says who is behind the port. */
function policyKeysOf({ kind }: Port): readonly string[] {
  return kind === 'tap' ? POLICY_KEYS : [...POLICY_KEYS, 'mac'];
}

function changedKeys(from: Port, to: Port): string[] {
  const before: Record<string, unknown> = { ...from };
  const after: Record<string, unknown> = { ...to };
  return [...new Set([...Object.keys(before), ...Object.keys(after)])].filter(
    (key) => !isDeepStrictEqual(before[key], after[key]),
  );
}

function deviceText(port: Port): string {
  return port.device === '' ? port.kind : `${port.kind} ${port.device}`;
}

/** Steps for the extension stack: remove what is gone, insert what is new, bring the rest into order, then configure and enable. */
function diffExtensions(from: readonly Extension[], to: readonly Extension[]): Step[] {
  const steps: Step[] = [];
  const order = from.map((extension) => extension.name);
  const kept = (extension: Extension) =>
    to.find((after) => after.name === extension.name && after.module === extension.module);
  for (const extension of from) {
    const after = kept(extension);
    const index = order.indexOf(extension.name);
    if (after === undefined) {
      order.splice(index, 1);
      const again = to.some((other) => other.name === extension.name);
      steps.push({
        operation: { op: 'extension-del', name: extension.name },
        undo: { op: 'extension-add', extension, index },
        text: `remove extension ${extension.name}${again ? ', to add it from its new module' : ''}`,
      });
    } else if (extension.enabled && !after.enabled) {
      // Disabled first, so that another forwarding extension may take its place.
      steps.push(enableStep(extension.name, false));
    }
  }
  to.forEach((extension, index) => {
    const at = order.indexOf(extension.name);
    if (at < 0) {
      order.splice(index, 0, extension.name);
      steps.push({
        operation: { op: 'extension-add', extension, index },
        undo: { op: 'extension-del', name: extension.name },
        text: `add extension ${extension.name}${extension.module === null ? '' : ` from ${extension.module}`}`,
      });
    } else if (at !== index) {
      order.splice(index, 0, ...order.splice(at, 1));
      steps.push({
        operation: { op: 'extension-move', name: extension.name, index },
        undo: { op: 'extension-move', name: extension.name, index: at },
        text: `move extension ${extension.name} to position ${index + 1}`,
      });
    }
  });
  for (const before of from) {
    const after = kept(before);
    if (after === undefined) continue;
    if (!isDeepStrictEqual(before.config, after.config)) {
      steps.push({
        operation: { op: 'extension-configure', name: after.name, config: after.config },
        undo: { op: 'extension-configure', name: after.name, config: before.config },
        text: `configure extension ${after.name}`,
      });
    }
    if (!before.enabled && after.enabled) steps.push(enableStep(after.name, true));
  }
  return steps;
}

function enableStep(name: string, enabled: boolean): Step {
  return {
    operation: { op: 'extension-enable', name, enabled },
    undo: { op: 'extension-enable', name, enabled: !enabled },
    text: `${enabled ? 'enable' : 'disable'} extension ${name}`,
  };
}

/**
 * The steps from one configuration to another; none when they mean the same. The section `daemon` is left out: it takes effect
 * when a daemon starts.
 */
export function diffConfigs(from: Config, to: Config): Step[] {
  const removed: Step[] = [];
  const added: Step[] = [];
  const goneOrReplaced = new Set<string>();
  const fresh = new Set<string>();
  for (const [name, before] of from.ports) {
    const after = to.ports.get(name);
    if (after !== undefined && isDeepStrictEqual(withoutPolicies(before), withoutPolicies(after))) {
      const keys = changedKeys(before, after);
      if (keys.length === 0) continue;
      added.push({
        operation: { op: 'port-set', name, port: after },
        undo: { op: 'port-set', name, port: before },
        text: `change port ${name} (${keys.join(', ')})`,
      });
      continue;
    }
    goneOrReplaced.add(name);
    removed.push({
      operation: { op: 'port-del', name },
      undo: { op: 'port-add', name, port: before },
      text: `remove port ${name}${after === undefined ? '' : `, to make it anew (${changedKeys(before, after).join(', ')})`}`,
    });
  }
  for (const [name, port] of to.ports) {
    if (from.ports.has(name) && !goneOrReplaced.has(name)) continue;
    fresh.add(name);
    added.push({
      operation: { op: 'port-add', name, port },
      undo: { op: 'port-del', name },
      text: `add port ${name} (${deviceText(port)})`,
    });
  }

  const isKept = (entry: StaticAddress, list: readonly StaticAddress[]) =>
    !goneOrReplaced.has(entry.port) && !fresh.has(entry.port) && list.some((other) => isDeepStrictEqual(other, entry));
  const entryText = (entry: StaticAddress) => `static entry ${entry.mac} VLAN ${entry.vlan} on port ${entry.port}`;
  const entriesOff = from.fdb.static.filter((entry) => !isKept(entry, to.fdb.static));
  const entriesOn = to.fdb.static.filter((entry) => !isKept(entry, from.fdb.static));

  const steps: Step[] = [];
  if (from.offload !== to.offload) {
    steps.push({
      operation: { op: 'offload', mode: to.offload },
      undo: { op: 'offload', mode: from.offload },
      text: `set offload to ${to.offload}`,
    });
  }
  if (from.connections.maximum !== to.connections.maximum) {
    const settings = ({ connections }: Config): Operation => ({ op: 'connections', maximum: connections.maximum });
    steps.push({
      operation: settings(to),
      undo: settings(from),
      text: `set the most connections to ${to.connections.maximum} (a table that is there keeps its size until \`millrace down\`)`,
    });
  }
  for (const entry of entriesOff) {
    steps.push({
      operation: { op: 'fdb-del', entry },
      undo: { op: 'fdb-add', entry },
      text: `remove ${entryText(entry)}`,
    });
  }
  steps.push(...removed, ...diffExtensions(from.extensions, to.extensions));
  if (from.fdb.ageingSeconds !== to.fdb.ageingSeconds || from.fdb.maximum !== to.fdb.maximum) {
    const settings = ({ fdb }: Config): Operation => ({
      op: 'fdb-settings',
      ageingSeconds: fdb.ageingSeconds,
      maximum: fdb.maximum,
    });
    steps.push({
      operation: settings(to),
      undo: settings(from),
      text: `set the forwarding database to ${to.fdb.ageingSeconds} s and ${to.fdb.maximum} addresses`,
    });
  }
  steps.push(...added);
  for (const entry of entriesOn) {
    steps.push({
      operation: { op: 'fdb-add', entry },
      undo: { op: 'fdb-del', entry },
      text: `add ${entryText(entry)}`,
    });
  }
  return steps;
}
