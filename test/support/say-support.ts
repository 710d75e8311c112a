/** A process that says what of offloading is possible for it. */
import { offloadSupport } from '../../src/offload/attach/support.ts';

console.log(JSON.stringify(offloadSupport()));
