/* Makes system calls of the program fail. LD_PRELOAD loads this library before the C library. It counts the
 * calls that change something in the folder RESNET_INJECT_IN; the first call has number 1. Call number
 * RESNET_INJECT_AT fails with the error number RESNET_INJECT_ERROR. If that number is 0, the process is killed
 * instead. With RESNET_INJECT_LASTING, every later call fails too. With RESNET_INJECT_ONLY, only calls of that
 * name are counted. At the end, the count is written to the file RESNET_INJECT_COUNT. Calls of Rust's standard
 * library go through these functions. Calls that rustix makes itself (to exchange two folders) do not. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_long calls;

static long setting(const char *name) {
  const char *text = getenv(name);
  return text ? atol(text) : 0;
}

static int below(const char *path) {
  const char *folder = getenv("RESNET_INJECT_IN");
  return folder && path && strncmp(path, folder, strlen(folder)) == 0;
}

/* Counts a call, and returns whether it must fail. Kills the process if the error number is 0. */
static int fails(const char *name, int is_below) {
  const char *only = getenv("RESNET_INJECT_ONLY");
  if (!is_below || (only && strcmp(only, name) != 0)) return 0;
  long call = ++calls, at = setting("RESNET_INJECT_AT");
  if (call != at && !(call > at && getenv("RESNET_INJECT_LASTING"))) return 0;
  int error = (int)setting("RESNET_INJECT_ERROR");
  if (error == 0) kill(getpid(), SIGKILL);
  errno = error;
  return 1;
}

static int file_below(int file) {
  char name[64], path[PATH_MAX];
  snprintf(name, sizeof name, "/proc/self/fd/%d", file);
  ssize_t length = readlink(name, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return below(path);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define ON_PATH(name, parameters, path, arguments) \
  int name parameters { return fails(#name, below(path)) ? -1 : NEXT(name) arguments; }
ON_PATH(mkdir, (const char *path, mode_t mode), path, (path, mode))
ON_PATH(rename, (const char *from, const char *to), to, (from, to))
ON_PATH(symlink, (const char *to, const char *path), path, (to, path))
ON_PATH(unlink, (const char *path), path, (path))
ON_PATH(rmdir, (const char *path), path, (path))

#define ON_FILE(name, type, parameters, arguments) \
  type name parameters { return fails(#name, file_below(file)) ? -1 : NEXT(name) arguments; }
ON_FILE(write, ssize_t, (int file, const void *bytes, size_t count), (file, bytes, count))
ON_FILE(fsync, int, (int file), (file))
ON_FILE(fdatasync, int, (int file), (file))
ON_FILE(ftruncate64, int, (int file, off64_t length), (file, length))
ON_FILE(unlinkat, int, (int file, const char *path, int flags), (file, path, flags))

int open64(const char *path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  mode_t mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  return fails("open64", flags & O_ACCMODE && below(path)) ? -1 : NEXT(open64)(path, flags, mode);
}

__attribute__((destructor)) static void write_count(void) {
  const char *path = getenv("RESNET_INJECT_COUNT");
  FILE *file = path ? fopen(path, "w") : NULL;
  if (!file) return;
  fprintf(file, "%ld", (long)calls);
  fclose(file);
}
