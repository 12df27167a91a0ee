# shellcheck shell=bash
# What the scripts share. The script that reads this sets `root`, the project's folder.

# One line of talk on stderr; stdout belongs to the program that a script starts.
say() {
  printf 'setup: %s\n' "$*" >&2
}

# fail STEP CAUSE REMEDY: the end of the script.
fail() {
  printf 'setup: %s failed: %s\n       remedy: %s\n' "$1" "$2" "$3" >&2
  exit 1
}

# The command that installs a tool here, from its Debian package and its macOS one.
install_command() {
  if command -v apt-get >/dev/null; then
    printf 'apt-get install -y %s   (as root)' "$1"
  elif [[ $(uname -s) == Darwin ]]; then
    printf '%s' "$2"
  else
    printf "install %s with your system's package manager" "$1"
  fi
}

# need STEP TOOL DEBIAN-PACKAGE MACOS-COMMAND: fails unless the tool is there.
need() {
  command -v "$2" >/dev/null || fail "$1" "$2 is not installed" "$(install_command "$3" "$4")"
}
