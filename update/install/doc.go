// Package install installs verified updates. It unpacks an archive in a directory of its own, runs its
// install_update.sh, records the result, and reinstalls the update before if the new one turns out to be bad. One
// process at a time installs.
//
// All files are in install/ below the state directory, with mode 0700:
//
//	lock               held by the one installer
//	record.json        what is installed, what failed, what is under way; replaced durably, with a copy
//	reserve            frees space for the record on a full disk, during an installation
//	archives/<digest>  the archive of the installed update, kept to go back to, and during an
//	                   installation that of the new one; hard links where that is safe, else copies
//	work/              where archives are unpacked and run; work.2 and so on if that can't be removed
//	work/update/<top>/ the unpacked archive, while it is installed
//	work/shims/        programs that record a request to reboot, while something runs
//	work/reboot        that request
//	log/install.log    the output of the scripts; older ones are install.log.1 to install.log.3
//
// # Steps of an installation
//
// An update is refused at once, with nothing changed, if it is not verified, is of another product, has a version
// that is set aside or lower than the installed one, or is installed already. Then come
//
//	stage     the file is linked or copied to archives/, and its length and SHA-256 are compared with
//	          what is signed; from here on nobody else can change the bytes
//	unpack    free space is checked, then the archive is unpacked into an empty work/update
//	before    recorded; the hooks of PreHooks run
//	script    recorded; install_update.sh runs
//	check     all file systems are synced; recorded; the hooks of PostHooks run
//	(done)    the record names the update as installed; work/ and the older archive are removed
//
// and, if something went wrong after the record was written,
//
//	over      the failure is recorded; the hooks of PostHooks run, to start what was stopped. They run
//	          on every way out: also if the installation stops for other reasons, if there is no way
//	          back, and at the next start after a kill
//	back      a hook of PostHooks failed: the version is set aside, and the update that the record
//	          names as installed is verified again and installed from unpack on. Only in this case is a
//	          version lower than the newest one on the box installed without a request
//
// A step without hooks is left out. After a power cut or a kill, the next Open and Resume continue:
//
//	stage, unpack         are cleaned up; nothing counts as failed
//	before                goes to over; nothing counts as failed
//	script                goes to over; it counts as a failure, and the next Install starts clean
//	check, over, back     are started again by Resume, MaxFailures times at most; then a check counts as
//	                      failed, and going back is given up
//
// Processes that an interrupted step left running are killed first; BOXUP_RUN in their environment identifies them.
//
// Scripts must be able to run twice. A script runs again if it was cut off by a power cut, or if it ended with 0 and
// the power failed before the record was on the disk. A script that reboots without being noticed (see below) looks
// like one that was cut off: it runs again after each boot, until it counts as failed MaxFailures times.
//
// # Failures
//
// If a script leaves something mounted in the unpacked folder, it is detached before the folder is removed, because
// its files belong to somebody else.
//
// Faults of the box itself count against no update: a disk that is full (bytes, inodes, quota), read-only or broken,
// or a program that can't be started for lack of memory. The error is disk.ErrNoSpace or ErrBox, and the next run
// tries again. A script or a hook that fails counts as such a fault, too, if the disk has become full meanwhile or if
// its output ends with the system's message for a full disk. The update is then tried again once there is more free
// space than before, and after a day anyway. After a check that fails in this way the box goes back without setting
// the update aside. If a full disk has no space for the record, the reserve is removed to make some. If that is not
// enough, the result of the script is not known: it counts neither as a success nor as a failure, and the script runs
// again. If the disk becomes read-only under a script, not even that can be recorded, and it looks like a power cut.
//
// A script has failed if it ends with a status other than 0, by a signal, or not within the time limit, or if it was
// interrupted. After MaxFailures failures the version is set aside with its digest. It is then refused with
// ErrSetAside unless Options.Force is set, until an update with the same or a higher version is installed. An update
// is set aside at once if its archive can never be installed (no install script, not a proper archive, another
// VERSION), or if a hook of PostHooks failed after it. A hook of PreHooks that fails stops the installation and
// doesn't count, because it says something about the box and not about the update. Changes that a failed script has
// made are not undone.
//
// # Programs
//
// Hooks are the executable files of a directory, in the order of their names. Names that begin with "." or end with
// "~" and files that are not executable are skipped. Hooks and script run in the unpacked folder, each in a process
// group of its own, with an empty standard input and this environment, in addition to Config.Env:
//
//	PATH            work/shims, then Config.Path
//	HOME            Config.Home
//	LANG            C
//	BOXUP_VERSION   the version that is being installed
//	BOXUP_PREVIOUS  the installed version, "" if there is none; when going back, the bad one
//	BOXUP_DIR       the unpacked folder; empty in hooks that Resume runs
//	BOXUP_RUN       changes with each run
//	BOXUP_RESULT    for the hooks of PostHooks: installed or failed
//	BOXUP_REBOOT    for the hooks of PostHooks: yes if a reboot follows, else no
//
// After the time limit, or when the context ends, the group gets SIGTERM, and SIGKILL after Grace. Then, and after a
// failure, all remaining processes of the run are killed, even those in sessions of their own; a process that both
// left the group and emptied its environment is not found. Background processes of a script that succeeded keep
// running. If they hold the output open, the installer waits for Grace and then closes it. Of the output of one run
// the first 256 KiB and the last 64 KiB are logged.
//
// # Rebooting
//
// work/shims holds reboot, poweroff, halt, shutdown, init, telinit and systemctl. They record a request and end with
// 0; they pass other uses on to the real program, such as "init q" and "systemctl restart". Each request counts as
// one to reboot, because a box without a person beside it must never be switched off. "shutdown -c" takes the request
// back. A script that calls a program by its path (/sbin/reboot), through sudo, or through the kernel isn't noticed.
//
// The request becomes part of the record with the result, and Reboot carries it out. It is forgotten when the machine
// has another boot ID. RebootPolicy decides whether there is a reboot. By default there is one if the script asked
// for it, and after each archive that boxsign build did not make, since the updater of that time always rebooted. An
// archive counts as made by boxsign build if it begins as boxsign build writes it: the entry of its top directory,
// that of VERSION, and a third, all with the same time and with modes 0755 and 0644.
//
// # The record
//
// record.json is one JSON object of at most 64 KiB and format 1:
//
//	format     1
//	installed  name, digest, length, time: what is installed
//	previous   the same of what was installed before; its archive isn't kept
//	attempt    what is under way: id, name, digest, length, started, phase (before, script, check, over,
//	           back), tries (how often Resume started it again), reason (what went wrong), reboot, asked
//	failures   name, digest, count, last, reason, set_aside; those of the 16 highest versions
//	aside_to   the highest version that was set aside and is no longer among failures; no version up to
//	           it is tried
//	reboot     due, asked, since, boot (the boot ID)
//	filled_disk
//	           digest, free, time: what filled the disk, and the bytes that were free when it began
//	damaged    why what is installed may not work: a check failed and there was no way back
//	history    time, name, digest, outcome, reason; the newest 20
//
// Times are UTC. A last field, checksum, is the SHA-256 of the object without it, and record.json.copy holds the same
// record. If the disk damaged one of them, it is written again from the other. If neither can be read, the record is
// moved to record.json.bad, and the box works like one without an installed update: it then installs the newest
// signed update instead of refusing updates for ever.
package install
