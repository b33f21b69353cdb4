// Package install installs verified updates: it unpacks an archive beside what runs, runs its
// install_update.sh, records the result, and goes back to the update before where the new one turns out
// to be bad. One process does so at a time.
//
// Everything lies in install/ below the state directory, with mode 0700:
//
//	lock               held by the one installer
//	record.json        what is installed, what failed, what is under way; replaced durably, with a copy
//	reserve            makes place for the record on a full disk, during an installation
//	archives/<digest>  the archive of the update that is installed, kept to go back to, and during an
//	                   installation that of the new one; hard links where that is safe, else copies
//	work/              where all that is unpacked and run lies; work.2 and so on where that can't be removed
//	work/update/<top>/ the unpacked archive, while it is installed
//	work/shims/        programs that note a request to reboot, while something runs
//	work/reboot        that request
//	log/install.log    what the scripts wrote; older ones are install.log.1 to install.log.3
//
// # The way of an update
//
// Refused at once, with nothing changed: what is not verified, another product, a version that is set
// aside, one that is lower than what is installed, and the same one again. Then
//
//	stage     length and SHA-256 of the file are compared with what is signed while it is linked or
//	          copied to archives/; from here on nobody else can change the bytes
//	unpack    free space is checked, then the archive is unpacked into an empty work/update
//	before    the record says so; the hooks of PreHooks run
//	script    the record says so; install_update.sh runs
//	check     all file systems are synced; the record says so; the hooks of PostHooks run
//	(done)    the record names the update as installed; work/ and the older archive are removed
//
// and, where something went wrong after the record was written,
//
//	over      the failure is recorded; the hooks of PostHooks run, to start what was stopped. They do so
//	          on every way out: also where the installation stops for other reasons, where there is no way
//	          back, and at the next start after a kill
//	back      a hook of PostHooks failed: the version is set aside, and the update that is installed by
//	          the record, verified again, goes the same way from unpack on. This is the one case in
//	          which a version lower than the newest one on the box is installed without being asked for
//
// A step without hooks is left out. Whatever is interrupted, by a power cut or a kill, is taken up by the
// next Open and Resume:
//
//	stage, unpack         cleaned up; nothing counts as failed
//	before                over; nothing counts as failed
//	script                over; it counts as a failure, and the next Install starts clean
//	check, over, back     are begun again by Resume, MaxFailures times at most; then a check counts as
//	                      failed, and going back is given up
//
// Processes that an interrupted step left running are killed first; they are known by BOXUP_RUN in their
// environment.
//
// What power failure means for a script: where the power fails after it ended with 0 and before the
// record was on the disk, it runs again, and so does one that was cut off in the middle. Scripts must be
// able to run twice. A script that reboots in a way that is not noticed (see below) looks like one that
// was cut off: it runs again after each boot, until it counts as failed MaxFailures times.
//
// # Failures
//
// Where a script leaves something mounted in the unpacked folder, that is detached before the folder is
// removed: what is in it belongs to somebody else.
//
// What the box itself is to blame for counts against no update: a disk that is full (bytes, inodes, quota),
// read-only or broken, or a program that can't be started for want of memory. The error is disk.ErrNoSpace or ErrBox, and
// the next run goes on. A script or a hook that fails while the disk has become full, or whose output ends with what
// programs say then, is taken for that, too: it is tried again once there is more room than it had, and after a day
// anyway. After a check that fails in that way the box goes back without setting the update aside. Where a full
// disk has no place for the record, the reserve makes it; where even that does not help, how a script ended is not
// known, it counts neither way and runs again. A disk that becomes read-only under a script can't even keep that, so
// that it looks like a power cut.
//
// A script that ends with another status than 0, by a signal, or not within the time limit has failed,
// and so has one that was interrupted. After MaxFailures of them the version is set aside, with its digest: it is
// refused with ErrSetAside until Options.Force, and forgotten when one with the same or a higher version is
// installed. An archive that can't be installed whatever is tried (no install script, not a proper
// archive, another VERSION) and one after which a hook of PostHooks failed are set aside at once. A hook
// of PreHooks that fails stops the installation and doesn't count: it says something about the box, not
// about the update. What a script that failed has changed by then is not undone.
//
// # What runs, and how
//
// Hooks are the executable files of a directory, in the order of their names; names that begin with "."
// or end with "~" and whatever is not executable are passed over. They and the script run in the
// unpacked folder, each in a process group of its own, with nothing on standard input and this
// environment, beside Config.Env:
//
//	PATH            work/shims, then Config.Path
//	HOME            Config.Home
//	LANG            C
//	BOXUP_VERSION   the version that is being installed
//	BOXUP_PREVIOUS  the version that is installed, "" where none is; when going back, the bad one
//	BOXUP_DIR       the unpacked folder; empty in hooks that Resume runs
//	BOXUP_RUN       changes with each run
//	BOXUP_RESULT    for the hooks of PostHooks: installed or failed
//	BOXUP_REBOOT    for the hooks of PostHooks: yes where a reboot follows, else no
//
// After the time limit, or when the context ends, the group gets SIGTERM, and SIGKILL after Grace.
// Whatever of the run is left then, and after a failure, is killed, sessions of its own included; a process
// that both left the group and emptied its environment is not known any more. What a script that succeeded
// left in the background goes on running; where it holds the output open, that is waited for during Grace
// and then closed. Of the output of one run the first 256 KiB and the last 64 KiB are logged.
//
// # Rebooting
//
// work/shims holds reboot, poweroff, halt, shutdown, init, telinit and systemctl. They note the request and
// end with 0, and pass on whatever is no such request: "init q", "systemctl restart". Each request is one to
// reboot: a box that nobody stands beside is never switched off. "shutdown -c" takes it back. A script
// that calls a program by its path (/sbin/reboot), through sudo, or by way of the kernel isn't noticed.
//
// The request becomes part of the record with the result, and Reboot carries it out. It is forgotten when
// the machine's boot ID is another one. Whether there is a reboot says RebootPolicy; by default there is
// one when the script asked for it, and after each archive that boxsign build did not make, since the
// updater of that time rebooted always. An archive counts as made by boxsign build where it begins as
// that writes it: the entry of its top directory, that of VERSION, and a third, all of one time, with
// modes 0755 and 0644.
//
// # The record
//
// record.json is one JSON object of at most 64 KiB and format 1:
//
//	format     1
//	installed  name, digest, length, time: what is installed
//	previous   the same of what was installed before; its archive isn't kept
//	attempt    what is under way: id, name, digest, length, started, phase (before, script, check, over,
//	           back), tries (how often it was taken up), reason (what went wrong), reboot, asked
//	failures   name, digest, count, last, reason, set_aside; those of the 16 highest versions
//	aside_to   no version up to this one is tried, since one that was set aside is not among failures any more
//	reboot     due, asked, since, boot (the boot ID)
//	filled_disk
//	           digest, free, time: what filled the disk, and the bytes that were free when it began
//	damaged    why what is installed may not work: a check failed and there was no way back
//	history    time, name, digest, outcome, reason; the newest 20
//
// Times are UTC. A last field, checksum, is the SHA-256 of the object without it, and record.json.copy holds the
// same record: one that the disk damaged is written again from there. Where neither can be read, it is moved to
// record.json.bad, and the box goes on as one on which nothing is installed: it then installs the newest
// update that is signed, which a box that refuses for ever would not.
package install
