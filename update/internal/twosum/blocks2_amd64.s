#include "textflag.h"

// SHA-256 of two states over the same chunks. The algorithm is FIPS 180-4, section 6.2.2; W, K and the
// working variables A to H have its names. The instructions are those of the Intel SHA Extensions
// (Gulley and others, 2013; Intel SDM volume 2, SHA256RNDS2, SHA256MSG1, SHA256MSG2).
//
// A register below holds four 32-bit words, the first named in its lowest lane.

// Where things are.
#define STATE_A DI
#define STATE_B SI
#define NEXT    DX // the next chunk
#define END     CX // the end of the last whole chunk
#define KTABLE  AX
#define WKTABLE SP // W+K of all 64 rounds, four bytes for each

#define WK      X0 // W+K of the next rounds: SHA256RNDS2 takes it from X0 and nowhere else
#define A_FEBA  X1 // the working variables of state a ...
#define A_HGDC  X2
#define B_FEBA  X3 // ... and of state b
#define B_HGDC  X4
#define W0      X5 // the latest sixteen words of the message schedule, four in each
#define W1      X6
#define W2      X7
#define W3      X8
#define TMP     X9
#define FLIP    X10 // for PSHUFB: reverses the bytes of each word
#define A_FEBA0 X11 // the states before the chunk
#define A_HGDC0 X12
#define B_FEBA0 X13
#define B_HGDC0 X14

// LOAD reads the i-th four words of the chunk, which are big-endian, into w.
#define LOAD(i, w) \
	MOVOU  (16*i)(NEXT), w; \
	PSHUFB FLIP, w

// SCHEDULE replaces w0 = W[t-16..t-13] by W[t..t+3] (step 1), where w1 to w3 hold the words between.
// SHA256MSG1 adds sigma0 of W[t-15..t-12], the next three lines add W[t-7..t-4], and SHA256MSG2 adds
// sigma1 of W[t-2..t+1], of which it makes the last two itself.
#define SCHEDULE(w0, w1, w2, w3) \
	SHA256MSG1 w1, w0; \
	MOVO       w3, TMP; \
	PALIGNR    $4, w2, TMP; \
	PADDL      TMP, w0; \
	SHA256MSG2 w3, w0

// ADDK puts W+K of rounds 4i to 4i+3, whose schedule words are in w, into the table.
#define ADDK(i, w) \
	MOVOU (16*i)(KTABLE), TMP; \
	PADDL w, TMP; \
	MOVOU TMP, (16*i)(WKTABLE)

// ROUNDS4 does rounds 4i to 4i+3 (step 3) of both states. SHA256RNDS2 does two rounds with the lower
// two words of WK. It reads both halves of a state and writes the new FEBA over the old HGDC; the old
// FEBA is the new HGDC. So after two of them each half is back in its register.
#define ROUNDS4(i) \
	MOVOU       (16*i)(WKTABLE), WK; \
	SHA256RNDS2 WK, A_FEBA, A_HGDC; \
	MOVOU       (16*i)(WKTABLE), WK; \
	SHA256RNDS2 WK, B_FEBA, B_HGDC; \
	MOVQ        (16*i+8)(WKTABLE), WK; \
	SHA256RNDS2 WK, A_HGDC, A_FEBA; \
	MOVQ        (16*i+8)(WKTABLE), WK; \
	SHA256RNDS2 WK, B_HGDC, B_FEBA

// func blocks2(a, b *[8]uint32, p []byte)
//
// The whole schedule is made first and goes through a table in memory, from which each SHA256RNDS2
// gets its WK by a load of its own. Shuffles and moves between registers would get in the way of the
// rounds: with them the same work takes a fifth longer.
TEXT ·blocks2(SB), NOSPLIT, $256-40
	MOVQ a+0(FP), STATE_A
	MOVQ b+8(FP), STATE_B
	MOVQ p_base+16(FP), NEXT
	MOVQ p_len+24(FP), END
	ANDQ $~63, END
	ADDQ NEXT, END
	LEAQ k<>(SB), KTABLE

	MOVOU flip<>(SB), FLIP
	MOVOU 0(STATE_A), A_FEBA
	MOVOU 16(STATE_A), A_HGDC
	MOVOU 0(STATE_B), B_FEBA
	MOVOU 16(STATE_B), B_HGDC

chunk:
	CMPQ NEXT, END
	JAE  done

	// Step 1: W[0..15] are the words of the chunk itself ...
	LOAD(0, W0)
	LOAD(1, W1)
	LOAD(2, W2)
	LOAD(3, W3)
	ADDK(0, W0)
	ADDK(1, W1)
	ADDK(2, W2)
	ADDK(3, W3)

	// ... and W[16..63] are made of the sixteen before.
	SCHEDULE(W0, W1, W2, W3)
	ADDK(4, W0)
	SCHEDULE(W1, W2, W3, W0)
	ADDK(5, W1)
	SCHEDULE(W2, W3, W0, W1)
	ADDK(6, W2)
	SCHEDULE(W3, W0, W1, W2)
	ADDK(7, W3)
	SCHEDULE(W0, W1, W2, W3)
	ADDK(8, W0)
	SCHEDULE(W1, W2, W3, W0)
	ADDK(9, W1)
	SCHEDULE(W2, W3, W0, W1)
	ADDK(10, W2)
	SCHEDULE(W3, W0, W1, W2)
	ADDK(11, W3)
	SCHEDULE(W0, W1, W2, W3)
	ADDK(12, W0)
	SCHEDULE(W1, W2, W3, W0)
	ADDK(13, W1)
	SCHEDULE(W2, W3, W0, W1)
	ADDK(14, W2)
	SCHEDULE(W3, W0, W1, W2)
	ADDK(15, W3)

	// Step 2.
	MOVO A_FEBA, A_FEBA0
	MOVO A_HGDC, A_HGDC0
	MOVO B_FEBA, B_FEBA0
	MOVO B_HGDC, B_HGDC0

	// Step 3.
	ROUNDS4(0)
	ROUNDS4(1)
	ROUNDS4(2)
	ROUNDS4(3)
	ROUNDS4(4)
	ROUNDS4(5)
	ROUNDS4(6)
	ROUNDS4(7)
	ROUNDS4(8)
	ROUNDS4(9)
	ROUNDS4(10)
	ROUNDS4(11)
	ROUNDS4(12)
	ROUNDS4(13)
	ROUNDS4(14)
	ROUNDS4(15)

	// Step 4.
	PADDL A_FEBA0, A_FEBA
	PADDL A_HGDC0, A_HGDC
	PADDL B_FEBA0, B_FEBA
	PADDL B_HGDC0, B_HGDC
	ADDQ  $64, NEXT
	JMP   chunk

done:
	MOVOU A_FEBA, 0(STATE_A)
	MOVOU A_HGDC, 16(STATE_A)
	MOVOU B_FEBA, 0(STATE_B)
	MOVOU B_HGDC, 16(STATE_B)
	RET

// func cpuid(leaf uint32) (eax, ebx, ecx uint32)
TEXT ·cpuid(SB), NOSPLIT, $0-20
	MOVL leaf+0(FP), AX
	XORL CX, CX
	CPUID
	MOVL AX, eax+8(FP)
	MOVL BX, ebx+12(FP)
	MOVL CX, ecx+16(FP)
	RET

// flip: in each word the byte of index 3 first.
DATA flip<>+0(SB)/8, $0x0405060700010203
DATA flip<>+8(SB)/8, $0x0c0d0e0f08090a0b
GLOBL flip<>(SB), RODATA|NOPTR, $16

// k: the constants of FIPS 180-4, section 4.2.2, four to a line.
#define K4(at, a, b, c, d) \
	DATA k<>+(at+0)(SB)/4, $a; \
	DATA k<>+(at+4)(SB)/4, $b; \
	DATA k<>+(at+8)(SB)/4, $c; \
	DATA k<>+(at+12)(SB)/4, $d

K4(0x00, 0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5)
K4(0x10, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5)
K4(0x20, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3)
K4(0x30, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174)
K4(0x40, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc)
K4(0x50, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da)
K4(0x60, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7)
K4(0x70, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967)
K4(0x80, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13)
K4(0x90, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85)
K4(0xa0, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3)
K4(0xb0, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070)
K4(0xc0, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5)
K4(0xd0, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3)
K4(0xe0, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208)
K4(0xf0, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2)
GLOBL k<>(SB), RODATA|NOPTR, $256
