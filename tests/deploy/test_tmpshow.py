def test_show(settled):
    print(settled.deploy("v3-health", code=1, DEPLOY_HEALTH_TIMEOUT="2"))
    assert 0
