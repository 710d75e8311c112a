/** A process that sends frames with the traffic generator and says how many. Usage: send-frames.ts <options as JSON> */
import { type GenerateOptions, generate } from '../../src/bpf/index.ts';

const { sent } = await generate(JSON.parse(process.argv[2]) as GenerateOptions);
console.log(`sent ${sent}`);
