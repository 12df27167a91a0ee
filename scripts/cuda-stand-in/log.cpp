// The log: what happened, as JSON lines.

#include "state.h"

#include <cxxabi.h>
#include <dlfcn.h>
#include <execinfo.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>

namespace stand_in {
namespace {

constexpr int MOST_CALLERS = 40;
constexpr size_t LONGEST_NAME = 200;

// The file descriptor of the log; negative if nobody asked for one.
int descriptor() {
  static const int opened = [] {
    const char* file = getenv("CUDA_STAND_IN_LOG");
    return file == nullptr ? -1 : open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  }();
  return opened;
}

// The functions that led to this call, the nearest first, without those of the stand-in itself.
std::string trace() {
  void* callers[MOST_CALLERS];
  const int count = backtrace(callers, MOST_CALLERS);
  Dl_info self{};
  dladdr(reinterpret_cast<void*>(&descriptor), &self);
  std::string list;
  for (int i = 0; i < count; ++i) {
    Dl_info info{};
    const bool is_named = dladdr(callers[i], &info) != 0 && info.dli_sname != nullptr;
    if (is_named && info.dli_fbase != self.dli_fbase) {
      list += (list.empty() ? "" : ", ") + text(demangled(info.dli_sname).substr(0, LONGEST_NAME));
    }
  }
  return "[" + list + "]";
}

std::string numbers(const std::vector<size_t>& values) {
  std::string list;
  for (const size_t value : values) {
    list += (list.empty() ? "" : ", ") + std::to_string(value);
  }
  return "[" + list + "]";
}

// The last line of the log.
struct AtExit {
  ~AtExit() {
    log("exit", {{"memory", numbers(used_memory())}, {"peak", numbers(peak_memory())}});
  }
} at_exit;

}  // namespace

std::recursive_mutex& mutex() {
  static auto* const mutex = new std::recursive_mutex;
  return *mutex;
}

long number(const char* variable, long otherwise) {
  const char* value = getenv(variable);
  return value == nullptr ? otherwise : atol(value);
}

std::string text(const std::string& value) {
  std::string result = "\"";
  for (const char c : value) {
    if (c == '"' || c == '\\') {
      result += '\\';
    }
    result += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
  }
  return result + "\"";
}

std::string counts(const Counts& value) {
  std::string result;
  for (const auto& [name, count] : value) {
    result += (result.empty() ? "" : ", ") + text(name) + ": " + std::to_string(count);
  }
  return "{" + result + "}";
}

std::string demangled(const std::string& symbol) {
  int status = 0;
  char* const name = abi::__cxa_demangle(symbol.c_str(), nullptr, nullptr, &status);
  const std::string result = name == nullptr ? symbol : name;
  free(name);
  return result;
}

void log(const char* event, const std::vector<Field>& fields) {
  std::string line = "{\"event\": " + text(event);
  for (const Field& field : fields) {
    line += ", " + text(field.name) + ": " + field.json;
  }
  line += "}\n";
  // One call, so that lines of several processes do not mix.
  if (descriptor() >= 0 && write(descriptor(), line.data(), line.size()) < 0) {
    abort();
  }
}

void log_with_trace(const char* event, std::vector<Field> fields) {
  fields.push_back({"trace", trace()});
  log(event, fields);
}

void violation(const std::string& rule, const std::string& call) {
  log_with_trace("violation", {{"rule", text(rule)}, {"call", text(call)}});
}

Activity& activity() {
  static Activity activity;
  return activity;
}

}  // namespace stand_in
