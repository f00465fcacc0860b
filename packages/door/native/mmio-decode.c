/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decoder of the x86-64 instructions that compilers and libraries touch device registers with (Intel SDM, volume 2; chapter 2 for
 * the encoding, appendix A for the opcode maps). One table; what is not in it is not known.
 */
#if defined(__x86_64__)
#include "mmio.h"

#include <string.h>

/* Mandatory prefixes, in the order of VEX.pp; ANY: 0x66 is the operand size, others say nothing. */
enum { NP = 1, P66 = 2, PF3 = 4, PF2 = 8, ANY = 16 };
/* Opcode maps, in the order of VEX.mmmmm. */
enum { ONE, OF, OF38 };
/* Operand sizes: in bytes, or by prefixes. */
enum { BY_OPERAND = 100, BY_W, BY_VECTOR };
/* Properties. */
enum {
	STORE = 1,
	IMM8 = 2,		/* followed by a byte, sign-extended */
	IMMZ = 4,		/* followed by 2 or 4 bytes, sign-extended */
	ABSOLUTE = 8,		/* an address, and no ModRM */
	STRING = 16,		/* no ModRM */
	VEX = 32,		/* has a form with VEX and EVEX as well */
	ONLY_EVEX = 64,
	ONLY_IMM = 128,		/* the other operand is the immediate */
	MERGES = 256,		/* its VEX form takes the rest from VEX.vvvv */
	NO_OTHER = 512,		/* there is no other operand */
	MASKED = 1024,		/* its EVEX form may have a mask, over elements of 4 or 8 bytes */
	SMALL = 2048,		/* of 1 or 2 */
};

#define ANY_GROUP 8
#define RCX 1

struct row {
	uint8_t map, opcode, mask, prefixes;
	uint8_t group;		/* ModRM.reg, which is part of the opcode; ANY_GROUP: it is not */
	uint8_t op, size;
	uint8_t code_shift;	/* where `code` is in the opcode; under a mask of all ones it is ModRM.reg, where that is no operand */
	uint16_t is;
};

static const struct row rows[] = {
	/* ADD OR ADC SBB AND SUB XOR CMP */
	{ ONE, 0x00, 0xc7, ANY, ANY_GROUP, MMIO_ALU, 1, 3, STORE },
	{ ONE, 0x01, 0xc7, ANY, ANY_GROUP, MMIO_ALU, BY_OPERAND, 3, STORE },
	{ ONE, 0x02, 0xc7, ANY, ANY_GROUP, MMIO_ALU, 1, 3, 0 },
	{ ONE, 0x03, 0xc7, ANY, ANY_GROUP, MMIO_ALU, BY_OPERAND, 3, 0 },
	{ ONE, 0x80, 0xff, ANY, ANY_GROUP, MMIO_ALU, 1, 0, STORE | IMM8 | ONLY_IMM },
	{ ONE, 0x81, 0xff, ANY, ANY_GROUP, MMIO_ALU, BY_OPERAND, 0, STORE | IMMZ | ONLY_IMM },
	{ ONE, 0x83, 0xff, ANY, ANY_GROUP, MMIO_ALU, BY_OPERAND, 0, STORE | IMM8 | ONLY_IMM },
	{ ONE, 0x84, 0xff, ANY, ANY_GROUP, MMIO_TEST, 1, 0, 0 },
	{ ONE, 0x85, 0xff, ANY, ANY_GROUP, MMIO_TEST, BY_OPERAND, 0, 0 },
	{ ONE, 0xf6, 0xff, ANY, 0, MMIO_TEST, 1, 0, IMM8 | ONLY_IMM },
	{ ONE, 0xf7, 0xff, ANY, 0, MMIO_TEST, BY_OPERAND, 0, IMMZ | ONLY_IMM },
	{ ONE, 0xf6, 0xff, ANY, 2, MMIO_NOT, 1, 0, STORE | NO_OTHER },
	{ ONE, 0xf7, 0xff, ANY, 2, MMIO_NOT, BY_OPERAND, 0, STORE | NO_OTHER },
	{ ONE, 0xf6, 0xff, ANY, 3, MMIO_NEG, 1, 0, STORE | NO_OTHER },
	{ ONE, 0xf7, 0xff, ANY, 3, MMIO_NEG, BY_OPERAND, 0, STORE | NO_OTHER },
	{ ONE, 0xfe, 0xff, ANY, 0, MMIO_INC, 1, 0, STORE | NO_OTHER },
	{ ONE, 0xff, 0xff, ANY, 0, MMIO_INC, BY_OPERAND, 0, STORE | NO_OTHER },
	{ ONE, 0xfe, 0xff, ANY, 1, MMIO_DEC, 1, 0, STORE | NO_OTHER },
	{ ONE, 0xff, 0xff, ANY, 1, MMIO_DEC, BY_OPERAND, 0, STORE | NO_OTHER },
	{ ONE, 0xff, 0xff, ANY, 6, MMIO_PUSH, BY_OPERAND, 0, NO_OTHER },
	/* Shifts by an immediate, by 1, by CL */
	{ ONE, 0xc0, 0xff, ANY, ANY_GROUP, MMIO_SHIFT, 1, 0, STORE | IMM8 | ONLY_IMM },
	{ ONE, 0xc1, 0xff, ANY, ANY_GROUP, MMIO_SHIFT, BY_OPERAND, 0, STORE | IMM8 | ONLY_IMM },
	{ ONE, 0xd0, 0xff, ANY, ANY_GROUP, MMIO_SHIFT, 1, 0, STORE | ONLY_IMM },
	{ ONE, 0xd1, 0xff, ANY, ANY_GROUP, MMIO_SHIFT, BY_OPERAND, 0, STORE | ONLY_IMM },
	{ ONE, 0xd2, 0xff, ANY, ANY_GROUP, MMIO_SHIFT, 1, 0, STORE | NO_OTHER },
	{ ONE, 0xd3, 0xff, ANY, ANY_GROUP, MMIO_SHIFT, BY_OPERAND, 0, STORE | NO_OTHER },
	{ OF, 0xa3, 0xe7, ANY, ANY_GROUP, MMIO_BIT, BY_OPERAND, 3, STORE },
	{ OF, 0xba, 0xff, ANY, ANY_GROUP, MMIO_BIT, BY_OPERAND, 0, STORE | IMM8 | ONLY_IMM },
	{ ONE, 0x69, 0xff, ANY, ANY_GROUP, MMIO_IMUL, BY_OPERAND, 0, IMMZ },
	{ ONE, 0x6b, 0xff, ANY, ANY_GROUP, MMIO_IMUL, BY_OPERAND, 0, IMM8 },
	{ OF, 0xaf, 0xff, ANY, ANY_GROUP, MMIO_IMUL, BY_OPERAND, 0, 0 },
	{ ONE, 0x86, 0xff, ANY, ANY_GROUP, MMIO_XCHG, 1, 0, STORE },
	{ ONE, 0x87, 0xff, ANY, ANY_GROUP, MMIO_XCHG, BY_OPERAND, 0, STORE },
	{ OF, 0xb0, 0xff, ANY, ANY_GROUP, MMIO_CMPXCHG, 1, 0, STORE },
	{ OF, 0xb1, 0xff, ANY, ANY_GROUP, MMIO_CMPXCHG, BY_OPERAND, 0, STORE },
	{ OF, 0xc0, 0xff, ANY, ANY_GROUP, MMIO_XADD, 1, 0, STORE },
	{ OF, 0xc1, 0xff, ANY, ANY_GROUP, MMIO_XADD, BY_OPERAND, 0, STORE },
	/* Moves of general registers */
	{ ONE, 0x88, 0xff, ANY, ANY_GROUP, MMIO_MOVE, 1, 0, STORE },
	{ ONE, 0x89, 0xff, ANY, ANY_GROUP, MMIO_MOVE, BY_OPERAND, 0, STORE },
	{ ONE, 0x8a, 0xff, ANY, ANY_GROUP, MMIO_MOVE, 1, 0, 0 },
	{ ONE, 0x8b, 0xff, ANY, ANY_GROUP, MMIO_MOVE, BY_OPERAND, 0, 0 },
	{ ONE, 0xa0, 0xff, ANY, ANY_GROUP, MMIO_MOVE, 1, 0, ABSOLUTE },
	{ ONE, 0xa1, 0xff, ANY, ANY_GROUP, MMIO_MOVE, BY_OPERAND, 0, ABSOLUTE },
	{ ONE, 0xa2, 0xff, ANY, ANY_GROUP, MMIO_MOVE, 1, 0, ABSOLUTE | STORE },
	{ ONE, 0xa3, 0xff, ANY, ANY_GROUP, MMIO_MOVE, BY_OPERAND, 0, ABSOLUTE | STORE },
	{ ONE, 0xc6, 0xff, ANY, 0, MMIO_MOVE, 1, 0, STORE | IMM8 | ONLY_IMM },
	{ ONE, 0xc7, 0xff, ANY, 0, MMIO_MOVE, BY_OPERAND, 0, STORE | IMMZ | ONLY_IMM },
	{ OF, 0xc3, 0xff, NP, ANY_GROUP, MMIO_MOVE, BY_OPERAND, 0, STORE },		/* MOVNTI */
	{ OF38, 0xf9, 0xff, NP, ANY_GROUP, MMIO_MOVDIRI, BY_OPERAND, 0, STORE },
	{ OF38, 0xf0, 0xff, NP | P66, ANY_GROUP, MMIO_SWAP, BY_OPERAND, 0, 0 },
	{ OF38, 0xf1, 0xff, NP | P66, ANY_GROUP, MMIO_SWAP, BY_OPERAND, 0, STORE },
	{ OF, 0xb6, 0xff, ANY, ANY_GROUP, MMIO_ZERO_EXTEND, 1, 0, 0 },
	{ OF, 0xb7, 0xff, ANY, ANY_GROUP, MMIO_ZERO_EXTEND, 2, 0, 0 },
	{ OF, 0xbe, 0xff, ANY, ANY_GROUP, MMIO_SIGN_EXTEND, 1, 0, 0 },
	{ OF, 0xbf, 0xff, ANY, ANY_GROUP, MMIO_SIGN_EXTEND, 2, 0, 0 },
	{ ONE, 0x63, 0xff, ANY, ANY_GROUP, MMIO_SIGN_EXTEND, 4, 0, 0 },
	{ OF, 0x40, 0xf0, ANY, ANY_GROUP, MMIO_CMOV, BY_OPERAND, 0, 0 },
	{ OF, 0x90, 0xf0, ANY, ANY_GROUP, MMIO_SET, 1, 0, STORE | NO_OTHER },
	{ ONE, 0xa4, 0xff, ANY, ANY_GROUP, MMIO_MOVS, 1, 0, STRING },
	{ ONE, 0xa5, 0xff, ANY, ANY_GROUP, MMIO_MOVS, BY_OPERAND, 0, STRING },
	{ ONE, 0xaa, 0xff, ANY, ANY_GROUP, MMIO_STOS, 1, 0, STRING },
	{ ONE, 0xab, 0xff, ANY, ANY_GROUP, MMIO_STOS, BY_OPERAND, 0, STRING },
	{ ONE, 0xac, 0xff, ANY, ANY_GROUP, MMIO_LODS, 1, 0, STRING },
	{ ONE, 0xad, 0xff, ANY, ANY_GROUP, MMIO_LODS, BY_OPERAND, 0, STRING },
	/* CLFLUSH, CLFLUSHOPT, CLWB */
	{ OF, 0xae, 0xff, NP | P66, 7, MMIO_FLUSH, 1, 0, NO_OTHER },
	{ OF, 0xae, 0xff, P66, 6, MMIO_FLUSH, 1, 0, NO_OTHER },
	{ OF38, 0xf8, 0xff, P66, ANY_GROUP, MMIO_MOVDIR64B, 64, 0, 0 },
	{ OF38, 0xf8, 0xff, PF2, ANY_GROUP, MMIO_ENQCMD, 64, 0, 0 },
	{ OF38, 0xf8, 0xff, PF3, ANY_GROUP, MMIO_ENQCMDS, 64, 0, 0 },
	/* MOVUPS, MOVUPD, MOVSS, MOVSD, MOVAPS, MOVAPD, MOVNTPS, MOVNTPD */
	{ OF, 0x10, 0xff, NP | P66, ANY_GROUP, MMIO_VECTOR, BY_VECTOR, 0, VEX | MASKED },
	{ OF, 0x11, 0xff, NP | P66, ANY_GROUP, MMIO_VECTOR, BY_VECTOR, 0, VEX | STORE | MASKED },
	{ OF, 0x10, 0xff, PF3, ANY_GROUP, MMIO_VECTOR, 4, 0, VEX },
	{ OF, 0x11, 0xff, PF3, ANY_GROUP, MMIO_VECTOR, 4, 0, VEX | STORE },
	{ OF, 0x10, 0xff, PF2, ANY_GROUP, MMIO_VECTOR, 8, 0, VEX },
	{ OF, 0x11, 0xff, PF2, ANY_GROUP, MMIO_VECTOR, 8, 0, VEX | STORE },
	{ OF, 0x28, 0xff, NP | P66, ANY_GROUP, MMIO_VECTOR, BY_VECTOR, 0, VEX | MASKED },
	{ OF, 0x29, 0xff, NP | P66, ANY_GROUP, MMIO_VECTOR, BY_VECTOR, 0, VEX | STORE | MASKED },
	{ OF, 0x2b, 0xff, NP | P66, ANY_GROUP, MMIO_VECTOR, BY_VECTOR, 0, VEX | STORE },
	/* MOVLPS, MOVLPD, MOVHPS, MOVHPD */
	{ OF, 0x12, 0xff, NP | P66, ANY_GROUP, MMIO_LOW, 8, 0, VEX | MERGES },
	{ OF, 0x13, 0xff, NP | P66, ANY_GROUP, MMIO_LOW, 8, 0, VEX | STORE },
	{ OF, 0x16, 0xff, NP | P66, ANY_GROUP, MMIO_HIGH, 8, 0, VEX | MERGES },
	{ OF, 0x17, 0xff, NP | P66, ANY_GROUP, MMIO_HIGH, 8, 0, VEX | STORE },
	/* MOVDQA, MOVDQU and their kin of EVEX, MOVD, MOVQ, MOVNTDQ, LDDQU, MOVNTDQA */
	{ OF, 0x6f, 0xff, P66 | PF3, ANY_GROUP, MMIO_VECTOR, BY_VECTOR, 0, VEX | MASKED },
	{ OF, 0x7f, 0xff, P66 | PF3, ANY_GROUP, MMIO_VECTOR, BY_VECTOR, 0, VEX | STORE | MASKED },
	{ OF, 0x6f, 0xff, PF2, ANY_GROUP, MMIO_VECTOR, BY_VECTOR, 0, VEX | ONLY_EVEX | MASKED | SMALL },
	{ OF, 0x7f, 0xff, PF2, ANY_GROUP, MMIO_VECTOR, BY_VECTOR, 0, VEX | ONLY_EVEX | STORE | MASKED | SMALL },
	{ OF, 0x6e, 0xff, P66, ANY_GROUP, MMIO_VECTOR, BY_W, 0, VEX },
	{ OF, 0x7e, 0xff, P66, ANY_GROUP, MMIO_VECTOR, BY_W, 0, VEX | STORE },
	{ OF, 0x7e, 0xff, PF3, ANY_GROUP, MMIO_VECTOR, 8, 0, VEX },
	{ OF, 0xd6, 0xff, P66, ANY_GROUP, MMIO_VECTOR, 8, 0, VEX | STORE },
	{ OF, 0xe7, 0xff, P66, ANY_GROUP, MMIO_VECTOR, BY_VECTOR, 0, VEX | STORE },
	{ OF, 0xf0, 0xff, PF2, ANY_GROUP, MMIO_VECTOR, BY_VECTOR, 0, VEX },
	{ OF38, 0x2a, 0xff, P66, ANY_GROUP, MMIO_VECTOR, BY_VECTOR, 0, VEX },
};

/* What stands in front of the opcode. */
struct prefixes {
	uint8_t operand16, repeat, narrow, segment, lock;
	uint8_t rex, w, r, x, b;	/* r: up to two bits */
	uint8_t encoding, map, vector_bytes, source;
	uint8_t mandatory;		/* one of NP to PF2 */
	uint8_t mask, zeroing;
};

static const uint8_t mandatory[4] = { NP, P66, PF3, PF2 };

static int64_t take(const uint8_t **at, size_t bytes)
{
	uint64_t value = 0;

	memcpy(&value, *at, bytes);
	*at += bytes;
	/* Sign-extended. */
	return bytes == 8 ? (int64_t)value : (int64_t)(value << (64 - 8 * bytes)) >> (64 - 8 * bytes);
}

static void legacy_prefixes(const uint8_t **at, struct prefixes *p)
{
	const uint8_t *from = *at;

	for (;; (*at)++) {
		switch (**at) {
		case 0x66:
			p->operand16 = 1;
			break;
		case 0x67:
			p->narrow = 1;
			break;
		case 0xf2:
		case 0xf3:
			p->repeat = **at;
			break;
		case 0x64:
		case 0x65:
			p->segment = 1;
			break;
		case 0x26:
		case 0x2e:
		case 0x36:
		case 0x3e:
			break;
		case 0xf0:
			p->lock = 1;
			break;
		default:
			return;
		}
		if (*at - from >= MMIO_LONGEST)
			return;
	}
}

/* VEX of two or three bytes, EVEX (SDM 2.3.5, 2.7.1); -1 for a form of EVEX that is no move. */
static int vector_prefix(const uint8_t **at, struct prefixes *p)
{
	uint8_t first = *(*at)++, payload, last;

	p->encoding = MMIO_VEX;
	p->map = OF;
	payload = *(*at)++;
	p->r = !(payload & 0x80);
	last = payload;
	if (first != 0xc5) {
		p->x = !(payload & 0x40);
		p->b = !(payload & 0x20);
		p->map = payload & (first == 0x62 ? 0x07 : 0x1f);
		if (first == 0x62)
			p->r |= !(payload & 0x10) << 1;
		last = *(*at)++;
		p->w = last >> 7;
	}
	p->source = (~last >> 3) & 15;
	p->mandatory = mandatory[last & 3];
	p->vector_bytes = last & 4 ? 32 : 16;
	if (first == 0x62) {
		uint8_t third = *(*at)++;

		if ((payload & 0x08) || !(last & 4) || (third & 0x10) || (third & 0x60) == 0x60)
			return -1; /* reserved, broadcast, a length that is not one */
		p->encoding = MMIO_EVEX;
		p->source |= !(third & 8) << 4;
		p->vector_bytes = (uint8_t)(16 << ((third >> 5) & 3));
		p->mask = third & 7;
		p->zeroing = third >> 7;
	}
	return 0;
}

static void rex_and_map(const uint8_t **at, struct prefixes *p)
{
	if ((**at & 0xf0) == 0x40) {
		uint8_t rex = *(*at)++;

		p->rex = 1;
		p->w = (rex >> 3) & 1;
		p->r = (rex >> 2) & 1;
		p->x = (rex >> 1) & 1;
		p->b = rex & 1;
	}
	if (**at == 0x0f) {
		(*at)++;
		p->map = OF;
		if (**at == 0x38) {
			(*at)++;
			p->map = OF38;
		}
	}
	p->mandatory = p->repeat == 0xf3 ? PF3 : p->repeat == 0xf2 ? PF2 : p->operand16 ? P66 : NP;
}

static const struct row *find_row(uint8_t opcode, const uint8_t *modrm, const struct prefixes *p)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *row = &rows[i];

		if (row->map != p->map || (opcode & row->mask) != (row->opcode & row->mask))
			continue;
		if (p->encoding != MMIO_LEGACY && !(row->is & VEX))
			continue;
		if (p->encoding != MMIO_EVEX && (row->is & ONLY_EVEX))
			continue;
		if (p->mask && !(row->is & MASKED))
			continue;
		if (row->prefixes == ANY ? row->map != ONE && p->repeat : !(row->prefixes & p->mandatory))
			continue;
		if (row->group == ANY_GROUP || row->group == ((*modrm >> 3) & 7))
			return row;
	}
	return NULL;
}

static uint8_t operand_bytes(const struct prefixes *p)
{
	return p->w ? 8 : p->operand16 ? 2 : 4;
}

static uint8_t row_size(const struct row *row, const struct prefixes *p)
{
	switch (row->size) {
	case BY_OPERAND:
		/* PUSH is of 64 bits by itself. */
		return row->op == MMIO_PUSH && !p->operand16 ? 8 : operand_bytes(p);
	case BY_W:
		return p->w ? 8 : 4;
	case BY_VECTOR:
		return p->vector_bytes;
	default:
		return row->size;
	}
}

/* ModRM, SIB and displacement; -1: not memory. */
static int memory_operand(const uint8_t **at, const struct prefixes *p, struct mmio_insn *insn)
{
	uint8_t modrm = *(*at)++, mode = modrm >> 6, low = modrm & 7;

	insn->reg = (uint8_t)(((modrm >> 3) & 7) | (p->r & 1) << 3 | (p->r & 2) << 3);
	insn->base = (uint8_t)(low | p->b << 3);
	if (mode == 3)
		return -1;
	if (low == 4) {
		uint8_t sib = *(*at)++;
		uint8_t index = (uint8_t)(((sib >> 3) & 7) | p->x << 3);

		insn->scale = sib >> 6;
		insn->index = index == 4 ? MMIO_NO_REGISTER : index;
		low = sib & 7;
		insn->base = (uint8_t)(low | p->b << 3);
		if (low == 5 && mode == 0) {
			insn->base = MMIO_NO_REGISTER;
			mode = 2;
		}
	} else if (low == 5 && mode == 0) {
		insn->base = MMIO_RIP;
		mode = 2;
	}
	if (mode == 1)
		insn->displacement = take(at, 1) * (p->encoding == MMIO_EVEX ? insn->size : 1); /* disp8*N, SDM 2.7.5 */
	else if (mode == 2)
		insn->displacement = take(at, 4);
	return 0;
}

/* What the operands are, beside memory. */
static int other_operand(const uint8_t **at, const struct row *row, const struct prefixes *p, struct mmio_insn *insn)
{
	uint8_t group = insn->reg & 7;
	int grouped = row->group == ANY_GROUP && (row->is & (ONLY_IMM | NO_OTHER)) && row->mask == 0xff;

	if (grouped && !(row->is & STRING))
		insn->code = group;
	if (row->op == MMIO_BIT && grouped) {
		if (group < 4)
			return -1;
		insn->code = group - 4;
	}
	insn->source = (row->is & MERGES) && p->encoding != MMIO_LEGACY ? p->source : insn->reg;
	if (row->op == MMIO_SHIFT)
		insn->imm = 1;
	if (row->is & IMM8)
		insn->imm = take(at, 1);
	if (row->is & IMMZ)
		insn->imm = take(at, insn->size == 2 ? 2 : 4);
	if (row->is & (ONLY_IMM | NO_OTHER))
		insn->reg = row->op == MMIO_SHIFT && (row->is & NO_OTHER) ? RCX : MMIO_NO_REGISTER;
	return 0;
}

int mmio_decode(const uint8_t *code, struct mmio_insn *insn)
{
	const uint8_t *at = code;
	struct prefixes p = { .mandatory = NP, .vector_bytes = 16 };

	memset(insn, 0, sizeof(*insn));
	insn->base = insn->index = MMIO_NO_REGISTER;
	legacy_prefixes(&at, &p);
	if (at - code >= MMIO_LONGEST || p.segment)
		return -1;
	if (*at == 0xc4 || *at == 0xc5 || *at == 0x62) {
		if (vector_prefix(&at, &p) != 0)
			return -1;
	} else {
		rex_and_map(&at, &p);
	}
	uint8_t opcode = *at++;
	const struct row *row = find_row(opcode, at, &p);

	if (!row)
		return -1;
	insn->op = row->op;
	insn->size = row_size(row, &p);
	insn->width = row->size == 1 && row->op != MMIO_ZERO_EXTEND && row->op != MMIO_SIGN_EXTEND ? 1 : operand_bytes(&p);
	insn->store = (row->is & STORE) != 0;
	insn->encoding = p.encoding;
	insn->rex = p.rex;
	insn->narrow = p.narrow;
	insn->repeat = p.repeat;
	insn->mask = p.mask;
	insn->zeroing = p.zeroing;
	insn->element = row->is & SMALL ? (p.w ? 2 : 1) : (p.w ? 8 : 4);
	insn->locked = p.lock || row->op == MMIO_XCHG;
	insn->times_imm = (row->is & (IMM8 | IMMZ)) && !(row->is & ONLY_IMM);
	insn->code = (uint8_t)(opcode & ~row->mask) >> row->code_shift;
	if (row->is & ABSOLUTE)
		insn->displacement = p.narrow ? (int64_t)(uint32_t)take(&at, 4) : take(&at, 8);
	else if (!(row->is & STRING) && memory_operand(&at, &p, insn) != 0)
		return -1;
	if (other_operand(&at, row, &p, insn) != 0 || at - code > MMIO_LONGEST)
		return -1;
	insn->length = (uint8_t)(at - code);
	return 0;
}
#endif
