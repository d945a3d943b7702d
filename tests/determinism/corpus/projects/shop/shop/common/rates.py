try:
    import requests
except ImportError:
    requests = None


class RateService:
    def __init__(self, url: str) -> None:
        self.url = url

    def rate(self, currency: str) -> float:
        return float(self._get(currency)["rate"])

    def _get(self, currency: str) -> dict:
        return requests.get(f"{self.url}/{currency}", timeout=5).json()  #! DT105


service = RateService("http://127.0.0.1:1")
