from __future__ import annotations
import os,pty,subprocess,sys,fcntl,termios,struct
def test_x(ebspub, every_state,environment,tmp_path):
    for a in (["status"],["status","--wide"],["status","--watch"]):
      for w in (80,200):
        m,s=pty.openpty()
        fcntl.ioctl(s,termios.TIOCSWINSZ,struct.pack("HHHH",12 if "--watch" in a else 40,w,0,0))
        env={**environment,"TERM":"xterm-256color"}
        p=subprocess.Popen([sys.executable,"-m","ebspub",*a],env=env,stdin=s,stdout=s,stderr=s,cwd=tmp_path)
        os.close(s)
        import time,signal
        if "--watch" in a: time.sleep(4); p.send_signal(2)
        out=b""
        while True:
            try: d=os.read(m,65536)
            except OSError: break
            if not d: break
            out+=d
        print(out.decode(), p.wait()); os.close(m)
    print(ebspub("status").stdout)
    assert 0
