/** What a configuration becomes by one operation: so that the daemon knows at every moment, failures included, what is running. */
import type { Operation } from './diff.ts';
import type { Config, StaticAddress } from './model.ts';

const sameAddress = (a: StaticAddress, b: StaticAddress) => a.mac === b.mac && a.vlan === b.vlan;

/** The configuration after an operation; the one given stays as it is. */
export function evolve(config: Config, operation: Operation): Config {
  const ports = new Map(config.ports);
  const extensions = [...config.extensions];
  let { offload, connections } = config;
  const fdb = { ...config.fdb, static: [...config.fdb.static] };
  const at = (name: string) => extensions.findIndex((extension) => extension.name === name);
  switch (operation.op) {
    case 'port-add':
    case 'port-set':
      ports.set(operation.name, operation.port);
      break;
    case 'port-del':
      ports.delete(operation.name);
      break;
    case 'extension-add':
      extensions.splice(operation.index, 0, operation.extension);
      break;
    case 'extension-del':
      extensions.splice(at(operation.name), 1);
      break;
    case 'extension-enable':
      extensions[at(operation.name)] = { ...extensions[at(operation.name)], enabled: operation.enabled };
      break;
    case 'extension-configure':
      extensions[at(operation.name)] = { ...extensions[at(operation.name)], config: operation.config };
      break;
    case 'extension-move':
      extensions.splice(operation.index, 0, ...extensions.splice(at(operation.name), 1));
      break;
    case 'fdb-settings':
      fdb.ageingSeconds = operation.ageingSeconds;
      fdb.maximum = operation.maximum;
      break;
    case 'offload':
      offload = operation.mode;
      break;
    case 'connections':
      connections = { ...connections, maximum: operation.maximum };
      break;
    case 'fdb-add':
      fdb.static.push(operation.entry);
      break;
    case 'fdb-del':
      fdb.static = fdb.static.filter((entry) => !sameAddress(entry, operation.entry));
      break;
  }
  return { ...config, ports, extensions, fdb, offload, connections };
}
