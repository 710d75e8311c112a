/** Connections end to end, through namespaces: how many come about in a second, what established ones cost, and a million of them. Neighbour: ../connections.ts has the table by itself. */
import { measureForwarding, type Pace } from '../forward.ts';
import type { PeerResult } from '../report.ts';
import { benchCreation, type CreationFigures } from './creation.ts';
import { EstablishedPeer } from './established.ts';
import { benchMillion, type MillionFigures } from './million.ts';

export interface TrackedFigures {
  readonly creation: CreationFigures;
  readonly established: readonly PeerResult[];
  readonly million: MillionFigures;
}

export async function benchTracked(pace: Pace): Promise<TrackedFigures> {
  const creation = await benchCreation(pace);
  const peers = (['off', 'tc', 'xdp'] as const).flatMap((hook) => [
    new EstablishedPeer(hook, false),
    new EstablishedPeer(hook, true),
  ]);
  const { peers: established } = await measureForwarding(peers, pace);
  return { creation, established, million: await benchMillion() };
}
