/** A process that opens a punt channel and holds it until it is ended. Usage: hold-punt.ts <interface> <namespace path> */
import { openPuntChannel } from '../../src/host/index.ts';

const [interfaceName, namespacePath] = process.argv.slice(2);
const channel = openPuntChannel({ interfaceName, namespacePath });
console.log(`holds ${channel.interfaceIndex} ${channel.adopted}`);
setInterval(() => channel.receive(), 1000);
