/**
 * The tunnel part of a flow key as this room reads and writes it. Where its words lie is flow/'s to say (layout.ts of flow/); here they are counted from the
 * first of them, so that a key's own words, its egress part and words of anybody else's are served alike: all functions take an array and where the tunnel begins.
 *
 *      0-1   id, 64 bits                       10   IP version 8 | tos 8 | ttl 8 | kind of options 8
 *      2-5   source, IPv4 in the first word    11   source port 16 | destination port 16
 *      6-9   destination, likewise             12   flags 16 | bytes of options 8 | 0 8
 *                                              13-  options
 *
 * That an option is critical is not in the flags: it follows from the options.
 */
import { Word } from '../flow/index.ts';

/** Words of the tunnel part, from where it begins. */
export const TunnelWord = {
  ID_HIGH: Word.TUNNEL_ID - Word.TUNNEL,
  ID: Word.TUNNEL_ID + 1 - Word.TUNNEL,
  SOURCE: Word.TUNNEL_SOURCE - Word.TUNNEL,
  DESTINATION: Word.TUNNEL_DESTINATION - Word.TUNNEL,
  IP: Word.TUNNEL_IP - Word.TUNNEL,
  PORTS: Word.TUNNEL_PORTS - Word.TUNNEL,
  FLAGS: Word.TUNNEL_FLAGS - Word.TUNNEL,
  OPTIONS: Word.TUNNEL_OPTIONS - Word.TUNNEL,
} as const;
