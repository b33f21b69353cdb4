package testworld

import "time"

// Patience is how long a test waits for a real process, peer or disk. It is so long that only broken code reaches it,
// however busy the machine is. No test checks that something takes less time.
const Patience = 3 * time.Minute
