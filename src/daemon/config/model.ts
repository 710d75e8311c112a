/**
 * The configuration as the daemon works with it: everything that was left out is filled in, lists and names are resolved. Two of these
 * can be compared (diff.ts); one can be written back as a file (`config show`).
 */
import type { z } from 'zod';
import { DEFAULT_CONNECTIONS } from '../../connections/index.ts';
import { DEFAULT_STACK } from '../extensions.ts';
import { type ConfigFile, INTERFACE_NAME, type OFFLOAD_MODES, type PortConfig, type portSchema } from './schema.ts';

/** One port with its device named. */
export type Port = PortConfig & { device: string };

/** One extension of the stack. */
export interface Extension {
  name: string;
  /** Absolute path of a user's module; null for a built-in. */
  module: string | null;
  enabled: boolean;
  config: Record<string, unknown>;
}

export interface StaticAddress {
  mac: string;
  /** 0 is untagged. */
  vlan: number;
  port: string;
}

/** A whole configuration, defaults filled in. */
export interface Config {
  daemon: { socket: string | null; logLevel: string | null; watchdogSeconds: number };
  ports: Map<string, Port>;
  extensions: Extension[];
  fdb: { ageingSeconds: number; maximum: number; static: StaticAddress[] };
  offload: OffloadMode;
  connections: { maximum: number };
}

/** Whether flows run in the kernel: where it allows that, nowhere, or else nothing starts. */
export type OffloadMode = (typeof OFFLOAD_MODES)[number];

export const DEFAULT_WATCHDOG_SECONDS = 2;
export const DEFAULT_AGEING_SECONDS = 300;
export const DEFAULT_FDB_MAXIMUM = 16384;

/** A configuration without ports, with the default stack: what a daemon starts with when it is given no file. */
export function emptyConfig(): Config {
  return normalise({}, (path) => path);
}

/** What is wrong with the interface of a port that was not named itself: the port's own name may not be one. @returns null for nothing */
export function deviceProblem(port: Port): string | null {
  if (port.device === '' || INTERFACE_NAME.test(port.device)) return null;
  return `"${port.device}" cannot be the name of an interface (1 to 15 characters): name one with "device"`;
}

/** Fill in what one port leaves out. */
export function normalisePort(
  name: string,
  port: z.output<typeof portSchema>,
  resolvePath: (path: string) => string,
): Port {
  if (port.kind === 'pcap') {
    const resolved = { ...port, device: '' };
    if (port.read !== undefined) resolved.read = resolvePath(port.read);
    if (port.write !== undefined) resolved.write = resolvePath(port.write);
    return resolved;
  }
  if (port.kind === 'memory') return { ...port, device: '' };
  return { ...port, device: port.device ?? name };
}

/** Fill in everything that a file leaves out. */
export function normalise(file: ConfigFile, resolvePath: (path: string) => string): Config {
  const ports = new Map<string, Port>();
  for (const [name, port] of Object.entries(file.ports ?? {})) ports.set(name, normalisePort(name, port, resolvePath));
  const extensions = (file.extensions ?? DEFAULT_STACK).map((entry): Extension => {
    if (typeof entry === 'string') return { name: entry, module: null, enabled: true, config: {} };
    return {
      name: entry.name,
      module: entry.module === undefined ? null : resolvePath(entry.module),
      enabled: entry.enabled ?? true,
      config: entry.config ?? {},
    };
  });
  return {
    daemon: {
      socket: file.daemon?.socket ?? null,
      logLevel: file.daemon?.logLevel ?? null,
      watchdogSeconds: file.daemon?.watchdogSeconds ?? DEFAULT_WATCHDOG_SECONDS,
    },
    ports,
    extensions,
    fdb: {
      ageingSeconds: file.fdb?.ageingSeconds ?? DEFAULT_AGEING_SECONDS,
      maximum: file.fdb?.maximum ?? DEFAULT_FDB_MAXIMUM,
      static: (file.fdb?.static ?? []).map((entry) => ({ mac: entry.mac, vlan: entry.vlan ?? 0, port: entry.port })),
    },
    offload: file.offload ?? 'auto',
    connections: { maximum: file.connections?.maximum ?? DEFAULT_CONNECTIONS },
  };
}

/** Write a configuration as plain data that {@link normalise} reads back to the same. */
export function toFile(config: Config): ConfigFile {
  const ports: Record<string, PortConfig> = {};
  for (const [name, port] of config.ports) {
    const { device, ...rest } = port;
    ports[name] = (device === '' || device === name ? rest : { ...rest, device }) as PortConfig;
  }
  const daemon: NonNullable<ConfigFile['daemon']> = {};
  if (config.daemon.socket !== null) daemon.socket = config.daemon.socket;
  if (config.daemon.logLevel !== null) daemon.logLevel = config.daemon.logLevel as NonNullable<typeof daemon.logLevel>;
  if (config.daemon.watchdogSeconds !== DEFAULT_WATCHDOG_SECONDS) {
    daemon.watchdogSeconds = config.daemon.watchdogSeconds;
  }
  const file: ConfigFile = {
    ports,
    extensions: config.extensions.map((extension) => {
      if (extension.module === null && extension.enabled && Object.keys(extension.config).length === 0)
        return extension.name;
      return {
        name: extension.name,
        ...(extension.module === null ? {} : { module: extension.module }),
        ...(extension.enabled ? {} : { enabled: false }),
        ...(Object.keys(extension.config).length === 0
          ? {}
          : { config: extension.config as Record<string, z.core.util.JSONType> }),
      };
    }),
    fdb: { ageingSeconds: config.fdb.ageingSeconds, maximum: config.fdb.maximum, static: config.fdb.static },
  };
  if (Object.keys(daemon).length > 0) file.daemon = daemon;
  if (config.offload !== 'auto') file.offload = config.offload;
  if (config.connections.maximum !== DEFAULT_CONNECTIONS) file.connections = config.connections;
  return file;
}
