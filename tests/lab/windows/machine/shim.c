/* What stands in for Windows programs that Wine has not got: python.exe, conda.exe, pip.exe, nvidia-smi.exe and others.
 *
 * It hands its own path, words, folder and environment to the Linux side of this machine (serve.py) over a TCP
 * connection of the loopback, and carries standard input, output and error as they are. It ends with the exit status
 * that the Linux side says. When it is terminated, the connection ends, and the Linux side ends what ran for it.
 * Port and token stand in C:\windows\labwright-machine.ini, so only programs of this machine are served.
 *
 * A message is one letter, four bytes of length (big-endian) and that many bytes. There: T token, P process id, X this
 * program, D folder, A a word, E a variable, G go, I input (empty: its end), S a console event. Back: O output,
 * R error, Q exit status.
 */
#define WIN32_LEAN_AND_MEAN
#include <winsock2.h>
#include <windows.h>
#include <stdio.h>
#include <stdlib.h>
#include <wchar.h>

#define INI L"C:\\windows\\labwright-machine.ini"
#define NOT_SERVED 250 /* the Linux side does not answer: no program's own exit status */

static SOCKET line;
static CRITICAL_SECTION turn;

static void fail(const char *what) {
  fprintf(stderr, "labwright-machine: %s (error %lu)\n", what, GetLastError());
  ExitProcess(NOT_SERVED);
}

static void put(const char *bytes, DWORD size) {
  while (size) {
    int sent = send(line, bytes, size > 1 << 20 ? 1 << 20 : (int)size, 0);
    if (sent <= 0) ExitProcess(NOT_SERVED);
    bytes += sent;
    size -= sent;
  }
}

static void say(char kind, const char *bytes, DWORD size) {
  char head[5] = {kind, (char)(size >> 24), (char)(size >> 16), (char)(size >> 8), (char)size};
  EnterCriticalSection(&turn);
  put(head, 5);
  put(bytes, size);
  LeaveCriticalSection(&turn);
}

static void say_wide(char kind, const WCHAR *text) {
  int size = WideCharToMultiByte(CP_UTF8, 0, text, -1, NULL, 0, NULL, NULL);
  char *bytes = malloc(size);
  WideCharToMultiByte(CP_UTF8, 0, text, -1, bytes, size, NULL, NULL);
  say(kind, bytes, size - 1);
  free(bytes);
}

static int take(char *bytes, DWORD size) {
  while (size) {
    int got = recv(line, bytes, size > 1 << 20 ? 1 << 20 : (int)size, 0);
    if (got <= 0) return 0;
    bytes += got;
    size -= got;
  }
  return 1;
}

static DWORD WINAPI forward(LPVOID nothing) {
  static char block[1 << 16];
  HANDLE input = GetStdHandle(STD_INPUT_HANDLE);
  DWORD got;
  if (input && input != INVALID_HANDLE_VALUE)
    while (ReadFile(input, block, sizeof block, &got, NULL) && got) say('I', block, got);
  say('I', "", 0);
  return 0;
}

static BOOL WINAPI on_event(DWORD event) {
  if (event == CTRL_C_EVENT) {
    say('S', "interrupt", 9);
    return TRUE;
  }
  say('S', "break", 5);
  if (event != CTRL_BREAK_EVENT) Sleep(INFINITE); /* the console closes: this process may live until it returns */
  return TRUE;
}

static void copy(DWORD which, DWORD size) {
  static char block[1 << 16];
  HANDLE output = GetStdHandle(which);
  while (size) {
    DWORD part = size > sizeof block ? sizeof block : size, done = 0, wrote;
    if (!take(block, part)) fail("the Linux side went away");
    while (output && output != INVALID_HANDLE_VALUE && done < part) {
      if (!WriteFile(output, block + done, part - done, &wrote, NULL)) break; /* nobody reads it any more */
      done += wrote;
    }
    size -= part;
  }
}

static void say_environment(void) {
  WCHAR *all = GetEnvironmentStringsW();
  for (WCHAR *one = all; *one; one += wcslen(one) + 1)
    if (*one != L'=') say_wide('E', one); /* =C: and its like are cmd's own notes */
  FreeEnvironmentStringsW(all);
}

int wmain(int count, WCHAR **words) {
  static WCHAR text[32768], token[128];
  char narrow[128], head[5];
  WSADATA data;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

  InitializeCriticalSection(&turn);
  address.sin_port = htons(GetPrivateProfileIntW(L"machine", L"port", 0, INI));
  if (!address.sin_port) fail("no port in C:\\windows\\labwright-machine.ini");
  GetPrivateProfileStringW(L"machine", L"token", L"", token, 128, INI);
  WSAStartup(MAKEWORD(2, 2), &data);
  line = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(line, (struct sockaddr *)&address, sizeof address)) fail("the Linux side does not answer");

  say_wide('T', token);
  snprintf(narrow, sizeof narrow, "%lu", GetCurrentProcessId());
  say('P', narrow, strlen(narrow));
  GetModuleFileNameW(NULL, text, 32768);
  say_wide('X', text);
  GetCurrentDirectoryW(32768, text);
  say_wide('D', text);
  for (int index = 1; index < count; index++) say_wide('A', words[index]);
  say_environment();
  SetConsoleCtrlHandler(NULL, FALSE); /* a parent may have told its children to ignore Ctrl-C */
  SetConsoleCtrlHandler(on_event, TRUE);
  say('G', "", 0);
  CreateThread(NULL, 0, forward, NULL, 0, NULL);

  while (take(head, 5)) {
    DWORD size = (DWORD)(unsigned char)head[1] << 24 | (unsigned char)head[2] << 16 | (unsigned char)head[3] << 8 |
                 (unsigned char)head[4];
    if (head[0] == 'O') copy(STD_OUTPUT_HANDLE, size);
    else if (head[0] == 'R') copy(STD_ERROR_HANDLE, size);
    else if (head[0] == 'Q' && size < sizeof narrow && take(narrow, size)) {
      narrow[size] = 0;
      ExitProcess(strtoul(narrow, NULL, 10));
    }
  }
  fail("the Linux side ended the connection");
  return NOT_SERVED;
}
