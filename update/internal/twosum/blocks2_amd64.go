package twosum

// hasBlocks2 says whether the processor has what blocks2 needs.
var hasBlocks2 = detect()

// detect asks for SSSE3 and the SHA extensions. Both use the registers of SSE only, which every
// operating system for amd64 saves, so nothing needs to be asked of the system.
func detect() bool {
	const (
		ssse3 = 1 << 9  // leaf 1, ECX
		sha   = 1 << 29 // leaf 7, EBX
	)
	highest, _, _ := cpuid(0)
	if highest < 7 {
		return false
	}
	_, _, ecx := cpuid(1)
	_, ebx, _ := cpuid(7)
	return ecx&ssse3 != 0 && ebx&sha != 0
}

// cpuid executes CPUID with that leaf and subleaf 0.
//
//go:noescape
func cpuid(leaf uint32) (eax, ebx, ecx uint32)

// blocks2 applies the compression function of SHA-256 for each whole 64-byte chunk of p to two states,
// whose words are in the order F E B A H G D C.
//
//go:noescape
func blocks2(a, b *[8]uint32, p []byte)
