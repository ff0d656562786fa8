"""A table of origins, hosts and credentials, for tests of the origin check alone and on real servers."""

SITE = {
    "ALLOWED_HOSTS": ["testserver", ".example.com"],
    "CSRF_TRUSTED_ORIGINS": ["https://trusted.org", "https://*.wild.org"],
    "FASTWS": {"ALLOWED_ORIGINS": ["http://localhost:3000", "chrome-extension://abcdef"]},
}
HOSTS = ["testserver", "testserver:8000", "shop.example.com", "evil.example"]
OWN = {"testserver": {0}, "testserver:8000": {1}, "shop": {2}, "trusted": {0, 1, 2}, "foreign": set()}

# Each origin with the positions of the hosts that it is allowed for. The last host is not the site's.
ORIGINS = {
    "http://testserver": OWN["testserver"],
    "http://testserver:80": OWN["testserver"],
    "HTTP://TestServer": OWN["testserver"],
    "http://testserver:8000": OWN["testserver:8000"],
    "http://shop.example.com": OWN["shop"],
    "https://trusted.org": OWN["trusted"],
    "https://trusted.org:443": OWN["trusted"],
    "https://a.b.wild.org": OWN["trusted"],
    "https://wild.org": OWN["trusted"],
    "http://localhost:3000": OWN["trusted"],
    "chrome-extension://abcdef": OWN["trusted"],
    "https://testserver": OWN["foreign"],
    "ws://testserver": OWN["foreign"],
    "http://trusted.org": OWN["foreign"],
    "https://trusted.org:8443": OWN["foreign"],
    "https://trusted.org.evil.example": OWN["foreign"],
    "https://eviltrusted.org": OWN["foreign"],
    "https://evilwild.org": OWN["foreign"],
    "http://localhost:3001": OWN["foreign"],
    "http://other.example.com": OWN["foreign"],
    "http://evil.example": OWN["foreign"],
    "http://user@testserver": OWN["foreign"],
    "http://testserver@evil.example": OWN["foreign"],
    "http://testserver/": OWN["foreign"],
    "http://testserver/path?query#hash": OWN["foreign"],
    "http://testserver\\.evil.example": OWN["foreign"],
    "http://testserver, http://evil.example": OWN["foreign"],
    "http://test\xf6server": OWN["foreign"],
    "http://testserver:": OWN["foreign"],
    "http://testserver:99999": OWN["foreign"],
    "http://[::1": OWN["foreign"],
    "http://*": OWN["foreign"],
    "https://*.wild.org": OWN["foreign"],
    "//testserver": OWN["foreign"],
    "testserver": OWN["foreign"],
    "null": OWN["foreign"],
    "file://": OWN["foreign"],
    "*": OWN["foreign"],
    " ": OWN["foreign"],
    "": OWN["foreign"],
}
CREDENTIALS = {
    "session cookie": [(b"cookie", b"theme=dark; sessionid=abcdefghijklmnop")],
    "token": [(b"authorization", b"Bearer token")],
    "nothing": [],
}
