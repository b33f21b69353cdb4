package testworld

import "time"

// Patience is how long a test waits for what a real process, peer or disk brings about. Broken code alone
// meets it, on a machine as busy as may be; no test holds that something takes less time.
const Patience = 3 * time.Minute
