"""Prints each alert that Alertmanager sends: one line of path, status, name and journey. Prometheus says that an alert
fires; only this says that somebody would be told.

usage: webhook.py PORT [ADDRESS]   (127.0.0.1 if not given)
"""

import http.server
import json
import sys


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        length = int(self.headers.get("Content-Length", 0))
        for alert in json.loads(self.rfile.read(length))["alerts"]:
            labels = alert["labels"]
            print(self.path, alert["status"], labels["alertname"], labels.get("journey", "-"), flush=True)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


address = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1"
http.server.HTTPServer((address, int(sys.argv[1])), Receiver).serve_forever()
