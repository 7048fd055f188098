"""A typed asynchronous client of Octopus.

Messages are dataclasses and every method is a coroutine or an asynchronous iterator:

```python
from octopus_client import Refused, connect
from octopus_client.octopus.user.v1 import AuthServiceStub, IdentifyShopperRequest

async with connect("shop.example", 443) as channel:
    me = await AuthServiceStub(channel).identify_shopper(IdentifyShopperRequest(tenant_id="qingshan"))
```
"""

from octopus_client.connection import connect
from octopus_client.errors import Refused

__all__ = ["Refused", "connect"]
