package install_test

const victimEnv = "INSTALL_VICTIM"

func victim() {}
