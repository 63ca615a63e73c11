"""A Windows host to test on: WinRM in front of Wine, with the real nssm.exe. See README.md."""
