package origin_test

const victimEnv = "ORIGIN_VICTIM"

func victim() {}
