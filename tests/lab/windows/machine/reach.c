/* What the Linux side of a machine does through Wine: `reach.exe run FILE` starts a program with exactly the command
 * line, folder and environment of FILE (UTF-16, each ended by a zero); `reach.exe registry` answers questions about the
 * registry on standard input, one line each: the question, root, key, name, kind and data (hexadecimal), separated by
 * 0x1f. Answers: the error number, then what was asked for, in the same form; the records of a list end with 0x1e.
 */
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#include <stdio.h>
#include <stdlib.h>
#include <wchar.h>

#define NOT_STARTED 251
#define TRIES 5 /* in Wine a new process dies now and then before its program runs: error 1359, which Windows never gives */

static WCHAR *wide(const char *text) {
  int size = MultiByteToWideChar(CP_UTF8, 0, text, -1, NULL, 0);
  WCHAR *result = malloc(size * sizeof(WCHAR));
  MultiByteToWideChar(CP_UTF8, 0, text, -1, result, size);
  return result;
}

static void show(const WCHAR *text) {
  int size = WideCharToMultiByte(CP_UTF8, 0, text, -1, NULL, 0, NULL, NULL);
  char *bytes = malloc(size);
  WideCharToMultiByte(CP_UTF8, 0, text, -1, bytes, size, NULL, NULL);
  fputs(bytes, stdout);
  free(bytes);
}

static void show_data(DWORD kind, const BYTE *data, DWORD size) {
  printf("\x1f%lu\x1f", kind);
  for (DWORD index = 0; index < size; index++) printf("%02x", data[index]);
}

/* The program lives no longer than this one, which stands for it on the Linux side; what it starts itself may. */
static int run(const WCHAR *file) {
  STARTUPINFOW start = {.cb = sizeof start, .dwFlags = STARTF_USESTDHANDLES};
  JOBOBJECT_EXTENDED_LIMIT_INFORMATION limits = {0};
  PROCESS_INFORMATION process;
  DWORD size, got, code = NOT_STARTED;
  HANDLE from = CreateFileW(file, GENERIC_READ, FILE_SHARE_READ, NULL, OPEN_EXISTING, 0, NULL), job;
  if (from == INVALID_HANDLE_VALUE) return NOT_STARTED;
  size = GetFileSize(from, NULL);
  WCHAR *text = calloc(size + 8, 1), *folder, *environment;
  ReadFile(from, text, size, &got, NULL);
  CloseHandle(from);
  DeleteFileW(file);
  folder = text + wcslen(text) + 1;
  environment = folder + wcslen(folder) + 1;
  start.hStdInput = GetStdHandle(STD_INPUT_HANDLE);
  start.hStdOutput = GetStdHandle(STD_OUTPUT_HANDLE);
  start.hStdError = GetStdHandle(STD_ERROR_HANDLE);
  job = CreateJobObjectW(NULL, NULL);
  limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE | JOB_OBJECT_LIMIT_SILENT_BREAKAWAY_OK;
  SetInformationJobObject(job, JobObjectExtendedLimitInformation, &limits, sizeof limits);
  for (int left = TRIES; !CreateProcessW(NULL, text, NULL, NULL, TRUE, CREATE_UNICODE_ENVIRONMENT | CREATE_SUSPENDED,
                                         environment, folder, &start, &process);) {
    DWORD error = GetLastError();
    if (error == ERROR_INTERNAL_ERROR && --left) continue;
    fprintf(stderr, "reach.exe: CreateProcess: error %lu\n", error);
    return NOT_STARTED;
  }
  AssignProcessToJobObject(job, process.hProcess);
  ResumeThread(process.hThread);
  WaitForSingleObject(process.hProcess, INFINITE);
  GetExitCodeProcess(process.hProcess, &code);
  return code;
}

static DWORD list(HKEY key) {
  static WCHAR name[32768];
  DWORD keys = 0, values = 0, longest = 0, error, size, kind, bytes;
  error = RegQueryInfoKeyW(key, NULL, NULL, NULL, &keys, NULL, NULL, &values, NULL, &longest, NULL, NULL);
  if (error) return error;
  printf("0");
  for (DWORD index = 0; index < keys; index++) {
    size = 32768;
    if (RegEnumKeyExW(key, index, name, &size, NULL, NULL, NULL, NULL)) continue;
    printf("\x1ek\x1f");
    show(name);
  }
  BYTE *data = malloc(longest + 2);
  for (DWORD index = 0; index < values; index++) {
    size = 32768, bytes = longest;
    if (RegEnumValueW(key, index, name, &size, NULL, &kind, data, &bytes)) continue;
    printf("\x1ev\x1f");
    show(name);
    show_data(kind, data, bytes);
  }
  free(data);
  return 0;
}

static DWORD value(HKEY key, const WCHAR *name) {
  DWORD kind, size = 0, error = RegQueryValueExW(key, name, NULL, &kind, NULL, &size);
  if (error) return error;
  BYTE *data = malloc(size + 2);
  error = RegQueryValueExW(key, name, NULL, &kind, data, &size);
  if (!error) {
    printf("0");
    show_data(kind, data, size);
  }
  free(data);
  return error;
}

static DWORD set(HKEY key, const WCHAR *name, DWORD kind, const char *hex) {
  DWORD size = strlen(hex) / 2;
  BYTE *data = malloc(size + 1);
  for (DWORD index = 0; index < size; index++) {
    char two[3] = {hex[2 * index], hex[2 * index + 1], 0};
    data[index] = (BYTE)strtoul(two, NULL, 16);
  }
  DWORD error = RegSetValueExW(key, name, 0, kind, data, size);
  free(data);
  return error;
}

static DWORD answer(char **field) {
  HKEY root = (HKEY)(ULONG_PTR)strtoul(field[1], NULL, 16), key = NULL;
  WCHAR *path = wide(field[2]), *name = wide(field[3]);
  DWORD error;
  if (!strcmp(field[0], "remove")) return RegDeleteKeyW(root, path);
  if (!strcmp(field[0], "create")) error = RegCreateKeyExW(root, path, 0, NULL, 0, KEY_ALL_ACCESS, NULL, &key, NULL);
  else error = RegOpenKeyExW(root, path, 0, KEY_ALL_ACCESS, &key);
  if (error) return error;
  if (!strcmp(field[0], "list")) error = list(key);
  else if (!strcmp(field[0], "get")) error = value(key, name);
  else if (!strcmp(field[0], "set")) error = set(key, name, strtoul(field[4], NULL, 10), field[5]);
  else if (!strcmp(field[0], "unset")) error = RegDeleteValueW(key, name);
  RegCloseKey(key);
  free(path);
  free(name);
  return error;
}

static int registry(void) {
  static char line[1 << 20];
  while (fgets(line, sizeof line, stdin)) {
    char *field[6] = {"", "", "", "", "", ""}, *rest = line;
    line[strcspn(line, "\r\n")] = 0;
    for (int index = 0; index < 6 && rest; index++) {
      char *end = strchr(rest, '\x1f');
      field[index] = rest;
      rest = end ? end + 1 : NULL;
      if (end) *end = 0;
    }
    DWORD error = answer(field);
    if (error) printf("%lu", error);
    else if (strcmp(field[0], "list") && strcmp(field[0], "get")) printf("0");
    printf("\n");
    fflush(stdout);
  }
  return 0;
}

int wmain(int count, WCHAR **words) {
  if (count == 3 && !wcscmp(words[1], L"run")) return run(words[2]);
  if (count == 2 && !wcscmp(words[1], L"registry")) return registry();
  fprintf(stderr, "usage: reach.exe run FILE | reach.exe registry\n");
  return 2;
}
