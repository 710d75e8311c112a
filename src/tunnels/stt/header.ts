/**
 * How STT lies on the wire (draft-davie-stt-08): a frame behind an STT header is the payload of what looks like TCP, so that network cards cut it and put it together; nothing of TCP but
 * the header's form is meant. All segments of a frame have its number; they may come in any order, and a lost one is not sent again.
 *
 *   0                       4                       8                       12             13    14
 *  +-----------+-----------+-----------+-----------+-----------------------+--------------+-----+--------+----------+--------+
 *  | source    | port 7471 | frame     | place in  | number of the frame   | words 4| 0 4 | ACK | 0xffff | checksum | 0      |
 *  | port      |           | length    | the frame | (acknowledgment)      |              | PSH | window |          | urgent |
 *  +-----------+-----------+-----------+-----------+-----------------------+--------------+-----+--------+----------+--------+ 20
 *
 *  and in the first bytes of the frame:
 *
 *   0         1       2           3          4                   6                     8                16        18
 *  +---------+-------+-----------+----------+-------------------+---------------------+----------------+---------+----------
 *  | version | flags | offset of | reserved | largest segment   | PCP 3 | V 1 | VLAN  | context id     | padding | Ethernet
 *  |    0    |       | layer 4   |          | of the TCP inside | id 12               | (64 bits)      |    0    | frame
 *  +---------+-------+-----------+----------+-------------------+---------------------+----------------+---------+----------
 *
 * The frame's length counts the STT header. The offset of layer 4 counts from the Ethernet frame. V says that there is a tag.
 */

/** The header that looks like TCP's. */
export const SttTcp = {
  SEQUENCE: 4,
  NUMBER: 8,
  DATA_OFFSET: 12,
  FLAGS: 13,
  WINDOW: 14,
  CHECKSUM: 16,
  URGENT: 18,
  LENGTH: 20,
} as const;

/** The header of a frame. */
export const SttFrame = {
  VERSION: 0,
  FLAGS: 1,
  L4_OFFSET: 2,
  SEGMENT_SIZE: 4,
  VLAN: 6,
  CONTEXT_ID: 8,
  PADDING: 16,
  LENGTH: 18,
} as const;

/** Flags of a frame. */
export const SttFlag = {
  /** The sender has checked the transport checksum inside. */
  CHECKSUM_VERIFIED: 1,
  /** It is partial: its field holds the pseudo header's sum. */
  CHECKSUM_PARTIAL: 2,
  /** With a partial checksum: IPv4, else IPv6. */
  IPV4: 4,
  /** With a partial checksum: TCP, else UDP. */
  TCP: 8,
} as const;

/** V, in the field of the tag. */
export const STT_TAG_PRESENT = 0x1000;

/** Where TCP and UDP have their checksum. */
export const TCP_CHECKSUM = 16;
export const UDP_CHECKSUM = 6;
