/* The acceptance suite's program as a Windows service: it answers, crashes, talks and refuses to stop when asked to.
   x86_64-w64-mingw32-gcc -municode toy.c -lws2_32; toy.exe PORT. TOY_CRASH in its environment makes it end at once, TOY_TALK
   makes it write so many lines at its start, TOY_STUBBORN makes it deaf to being told to stop. The same file is what its
   service's events run in a test: `toy.exe say WORDS STATUS` writes a line into C:\contract room\events.log and ends so. */
#include <winsock2.h>
#include <windows.h>
#include <stdio.h>
#include <stdlib.h>
#include <wchar.h>

static void line(const char *text) { fputs(text, stdout); fputs("\r\n", stdout); fflush(stdout); }

static void talk(int lines) {
  for (int number = 0; number < lines; number++) {
    printf("line %d of %lu ", number, GetCurrentProcessId());
    for (int i = 0; i < 900; i++) putchar('0' + rand() % 10);
    line("");
  }
}

static BOOL WINAPI told(DWORD event) {
  (void)event;
  if (_wgetenv(L"TOY_STUBBORN")) { line("I stay"); return TRUE; }
  line("told to stop");
  ExitProcess(0);
}

/* A JSON string in ASCII. */
static void json(char *out, size_t room, const wchar_t *text) {
  size_t used = strlen(out);
  if (used + 2 < room) out[used++] = '"';
  for (; *text && used + 8 < room; text++) used += sprintf(out + used, *text >= 32 && *text < 127 && *text != '"' && *text != '\\' ? "%c" : "\\u%04x", *text);
  if (used + 2 < room) { out[used++] = '"'; out[used] = 0; }
}

static void answer(SOCKET client, int argc, wchar_t **argv) {
  static char asked[2048], body[65536], head[128];
  wchar_t here[MAX_PATH];
  int got = recv(client, asked, sizeof asked - 1, 0);
  asked[got > 0 ? got : 0] = 0;
  if (!strncmp(asked, "GET /crash", 10)) ExitProcess(3);
  if (!strncmp(asked, "GET /talk", 9)) talk(300);
  GetCurrentDirectoryW(MAX_PATH, here);
  sprintf(body, "{\"pid\": %lu, \"folder\": ", GetCurrentProcessId());
  json(body, sizeof body, here);
  strcat(body, ", \"argv\": [");
  for (int i = 1; i < argc; i++) { if (i > 1) strcat(body, ", "); json(body, sizeof body, argv[i]); }
  strcat(body, "], \"environment\": {");
  wchar_t *block = GetEnvironmentStringsW(), *entry = block;
  for (int many = 0; *entry; entry += wcslen(entry) + 1) {
    wchar_t *sign = wcschr(entry + 1, L'='), name[256] = L"";
    if (!sign || *entry == L'=' || sign - entry > 255) continue;
    wcsncpy(name, entry, sign - entry);
    if (many++) strcat(body, ", ");
    json(body, sizeof body, name); strcat(body, ": "); json(body, sizeof body, sign + 1);
  }
  FreeEnvironmentStringsW(block);
  strcat(body, "}}");
  sprintf(head, "HTTP/1.0 200 OK\r\nContent-Length: %u\r\n\r\n", (unsigned)strlen(body));
  send(client, head, (int)strlen(head), 0);
  send(client, body, (int)strlen(body), 0);
}

int wmain(int argc, wchar_t **argv) {
  if (argc > 3 && !wcscmp(argv[1], L"say")) {
    FILE *file = _wfopen(L"C:\\contract room\\events.log", L"a");
    const char *pid = getenv("NSSM_APPLICATION_PID");
    if (file) { fprintf(file, "%ls %s\n", argv[2], pid ? pid : ""); fclose(file); }
    return _wtoi(argv[3]);
  }
  WSADATA wsa;
  struct sockaddr_in at = {0};
  if (_wgetenv(L"TOY_CRASH")) { line("I cannot live like this"); return 7; }
  if (_wgetenv(L"TOY_TALK")) talk(_wtoi(_wgetenv(L"TOY_TALK")));
  SetConsoleCtrlHandler(told, TRUE);
  WSAStartup(MAKEWORD(2, 2), &wsa);
  SOCKET server = socket(AF_INET, SOCK_STREAM, 0);
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  at.sin_port = htons((unsigned short)(argc > 1 ? _wtoi(argv[1]) : 8790));
  if (bind(server, (struct sockaddr *)&at, sizeof at) || listen(server, 8)) { line("the port is taken"); return 4; }
  line("toy is up");
  for (;;) {
    SOCKET client = accept(server, NULL, NULL);
    if (client == INVALID_SOCKET) continue;
    answer(client, argc, argv);
    closesocket(client);
  }
}
