# shellcheck shell=bash
# Functions that the scripts share. The script that sources this file sets `root`, the project's folder.

# Prints a message on stderr, because stdout is for the program that a script starts.
say() {
  printf 'setup: %s\n' "$*" >&2
}

# fail STEP CAUSE REMEDY: prints the error and ends the script.
fail() {
  printf 'setup: %s failed: %s\n       remedy: %s\n' "$1" "$2" "$3" >&2
  exit 1
}

# install_command DEBIAN-PACKAGE MACOS-COMMAND: prints how to install a tool on this machine.
install_command() {
  if command -v apt-get >/dev/null; then
    printf 'apt-get install -y %s   (as root)' "$1"
  elif [[ $(uname -s) == Darwin ]]; then
    printf '%s' "$2"
  else
    printf "install %s with your system's package manager" "$1"
  fi
}

# need STEP TOOL DEBIAN-PACKAGE MACOS-COMMAND: fails if the tool is not installed.
need() {
  command -v "$2" >/dev/null || fail "$1" "$2 is not installed" "$(install_command "$3" "$4")"
}
