/** A process that takes over a port and holds it until it is ended. Usage: hold-port.ts <interface> [--once] */
import { openPacketSocket } from '../../src/host/index.ts';

const [interfaceName, once] = process.argv.slice(2);
const port = openPacketSocket({ interfaceName });
console.log(`held ${port.isolation} ${port.warnings.join(' ')}`);
if (once === '--once') port.close();
else setInterval(() => port.counters, 1000);
