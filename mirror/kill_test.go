package mirror_test

const victimEnv = "MIRROR_VICTIM"

func victim() {}
